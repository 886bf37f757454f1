import { execFile, spawn } from 'node:child_process'
import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findBinaries, type Binaries } from './binaries.ts'
import { EmbeddedPostgresError } from './errors.ts'
import { chooseIdentity, giveTo, giveTreeTo, type Identity } from './identity.ts'
import { isAlive, sendSignal, worksIn } from './process.ts'
import { DATABASE, USER, type Address, tryConnect } from './session.ts'

const run = promisify(execFile)

/** A crash recovery reads the log back; with a gigabyte of it that takes minutes on a slow disk. */
const START_TIMEOUT_MS = 300_000

const STOP_TIMEOUT_MS = 30_000

const POLL_MS = 25

const RETRY_MS = 250

const MOST_LOG_BYTES = 1024 * 1024

/** Below the range from which systems take ports for outgoing connections, so that the port is free next time too. */
const PORTS = { from: 20_000, to: 31_999 }

export interface ServerFiles {
  /** The server's own folder. */
  data: string
  log: string
  password: string
  port: string
  lock: string
}

export function serverFiles(dataDir: string): ServerFiles {
  return {
    data: join(dataDir, 'postgres'),
    log: join(dataDir, 'postgres.log'),
    password: join(dataDir, 'postgres.password'),
    port: join(dataDir, 'postgres.port'),
    lock: join(dataDir, 'postgres.lock'),
  }
}

export interface StartOptions {
  dataDir: string
  durable: boolean
  /** Insist on this port: somebody holds an address with it. */
  port?: number
}

/** Finds the server that runs on the folder, or starts one. The caller holds the lock. */
export async function findOrStartServer(options: StartOptions): Promise<Address> {
  const files = serverFiles(options.dataDir)
  const running = await findServer(files)
  if (running) return running

  const binaries = await findBinaries()
  const identity = await chooseIdentity(options.dataDir, binaries.postgres)
  if (!existsSync(files.data)) await initialise(options, files, binaries, identity)
  await giveTreeTo(identity, files.data)
  await rotateLog(files)

  const deadline = performance.now() + START_TIMEOUT_MS
  for (;;) {
    await removeForeignPidFile(files)
    const started = await startServer(files, binaries, identity, options)
    if ('address' in started) return started.address
    if (performance.now() >= deadline || !isPassing(started.log, options.port)) {
      throw new EmbeddedPostgresError(
        `The embedded Postgres did not start: ${started.failure}. The end of ${files.log}:\n${started.log}`,
      )
    }
    await sleep(RETRY_MS)
    // A starter that was killed may have left a server which was not to be seen yet.
    const late = await findServer(files)
    if (late) return late
  }
}

/** The server that runs on the folder. Waits while it is starting, or stopping. The caller holds the lock. */
export async function findServer(files: ServerFiles): Promise<Address | undefined> {
  const deadline = performance.now() + START_TIMEOUT_MS
  for (;;) {
    const postmaster = await readPostmaster(files)
    if (!postmaster || !(await worksIn(postmaster.pid, files.data))) return undefined
    const password = await readFile(files.password, 'utf8')
    if (postmaster.port !== undefined) {
      const address = { port: postmaster.port, password }
      const refusal = await tryConnect(address)
      if (refusal === undefined) return address
      if (!refusal.retryable) throw refusal
    }
    if (performance.now() >= deadline) {
      throw new EmbeddedPostgresError(
        `A Postgres server (process ${postmaster.pid}) runs on ${files.data} but takes no connections. ` +
          `See ${files.log}.`,
      )
    }
    await sleep(POLL_MS)
  }
}

/** Made beside and moved in place: a start that is killed leaves nothing half done. */
async function initialise(
  { dataDir, durable }: StartOptions,
  files: ServerFiles,
  { initdb }: Binaries,
  identity: Identity,
) {
  for (const name of await readdir(dataDir)) {
    if (name.startsWith('postgres.init-')) await rm(join(dataDir, name), { recursive: true, force: true })
  }
  await writeFile(files.password, randomBytes(24).toString('base64url'), { mode: 0o600 })
  await giveTo(identity, files.password)

  const draft = join(dataDir, `postgres.init-${randomUUID()}`)
  await mkdir(draft, { mode: 0o700 })
  await giveTo(identity, draft)
  // The built-in locale: the same sort order on every machine, whatever locales it has.
  const [file, ...args] = [
    ...identity.prefix,
    initdb,
    `--pgdata=${draft}`,
    `--username=${USER}`,
    `--pwfile=${files.password}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--locale=C',
    '--set=timezone=UTC',
    '--set=log_timezone=UTC',
    ...(durable ? [] : ['--no-sync']),
  ]
  try {
    await run(file ?? initdb, args, { ...identity.owner, cwd: draft, env: serverEnvironment() })
  } catch (error) {
    await rm(draft, { recursive: true, force: true })
    throw new EmbeddedPostgresError(
      `The embedded database could not be made in ${dataDir}: ${outputOf(error)}`,
      {
        cause: error,
      },
    )
  }
  await rename(draft, files.data)
  const folder = await open(dataDir)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** A process id is given again after a reboot: Postgres then takes a stranger for its predecessor and refuses. */
async function removeForeignPidFile(files: ServerFiles): Promise<void> {
  const postmaster = await readPostmaster(files)
  if (postmaster && !(await worksIn(postmaster.pid, files.data)))
    await rm(postmasterFile(files), { force: true })
}

/** Never for long more than this: the server only logs starts, stops and errors. */
async function rotateLog(files: ServerFiles): Promise<void> {
  const size = await sizeOf(files.log)
  if (size > MOST_LOG_BYTES) await rename(files.log, `${files.log}.1`)
}

type Started = { address: Address } | { failure: string; log: string }

async function startServer(
  files: ServerFiles,
  { postgres }: Binaries,
  identity: Identity,
  { durable, port: fixedPort }: StartOptions,
): Promise<Started> {
  const address = {
    port: fixedPort ?? (await freePort(await readPort(files))),
    password: await readFile(files.password, 'utf8'),
  }
  const settings = [
    `port=${address.port}`,
    'listen_addresses=127.0.0.1',
    // No socket in /tmp: only who can read the password file gets in.
    'unix_socket_directories=',
    'log_checkpoints=off',
    // Without it commits still reach the system: a killed server loses nothing, a power cut may lose everything.
    ...(durable ? [] : ['fsync=off', 'full_page_writes=off']),
  ]
  const [file, ...args] = [...identity.prefix, postgres, '-D', files.data]
  const logged = await sizeOf(files.log)
  const log = await open(files.log, 'a', 0o600)
  const exited = Promise.withResolvers<string>()
  try {
    await giveTo(identity, files.log)
    const child = spawn(file ?? postgres, [...args, ...settings.flatMap((setting) => ['-c', setting])], {
      ...identity.owner,
      cwd: files.data,
      env: serverEnvironment(),
      // Its own session: Ctrl-C in the terminal is for the service, which stops the server after its last write.
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    })
    child.once('error', (error) => exited.resolve(error.message))
    child.once('exit', (code, signal) => exited.resolve(`it ended with ${signal ?? `code ${code}`}`))
    child.unref()
  } finally {
    await log.close()
  }

  const waiting = new AbortController()
  try {
    const failure = await Promise.race([exited.promise, untilReady(address, waiting.signal)])
    if (failure !== undefined) return { failure, log: await tailOf(files.log, logged) }
  } finally {
    waiting.abort()
  }
  await writeFile(files.port, String(address.port), { mode: 0o600 })
  await giveTo(identity, files.port)
  return { address }
}

/** The port was taken meanwhile, or processes of a killed server have not ended yet. */
function isPassing(log: string, fixedPort: number | undefined): boolean {
  if (/pre-existing shared memory block .* still in use|is another postmaster/s.test(log)) return true
  return fixedPort === undefined && log.includes('Address already in use')
}

async function untilReady(address: Address, signal: AbortSignal): Promise<string | undefined> {
  const deadline = performance.now() + START_TIMEOUT_MS
  while (!signal.aborted && performance.now() < deadline) {
    const refusal = await tryConnect(address)
    if (refusal === undefined) return undefined
    if (!refusal.retryable) return refusal.message
    await sleep(POLL_MS)
  }
  return `it took no connections for ${START_TIMEOUT_MS / 1000} s`
}

/** Fast shutdown: sessions are ended, everything is written. The caller holds the lock. */
export async function stopServer(dataDir: string): Promise<void> {
  const files = serverFiles(dataDir)
  const postmaster = await readPostmaster(files)
  if (!postmaster || !(await worksIn(postmaster.pid, files.data))) return
  sendSignal(postmaster.pid, 'SIGINT')
  if (await isGone(postmaster.pid)) return
  // Immediate: the next start recovers from the log, nothing committed is lost.
  sendSignal(postmaster.pid, 'SIGQUIT')
  if (await isGone(postmaster.pid)) return
  throw new EmbeddedPostgresError(
    `The embedded Postgres (process ${postmaster.pid}) does not stop. See ${files.log}.`,
  )
}

async function isGone(pid: number): Promise<boolean> {
  const deadline = performance.now() + STOP_TIMEOUT_MS
  while (await isAlive(pid)) {
    if (performance.now() >= deadline) return false
    await sleep(POLL_MS)
  }
  return true
}

function postmasterFile(files: ServerFiles): string {
  return join(files.data, 'postmaster.pid')
}

/** Line 1 is the process id, line 4 the port (absent while it starts). */
async function readPostmaster(
  files: ServerFiles,
): Promise<{ pid: number; port: number | undefined } | undefined> {
  const text = await readFile(postmasterFile(files), 'utf8').catch(() => '')
  const lines = text.split('\n')
  const pid = Number(lines[0])
  if (!Number.isInteger(pid) || pid <= 0) return undefined
  return { pid, port: lines[3] === undefined || lines[3] === '' ? undefined : Number(lines[3]) }
}

async function readPort(files: ServerFiles): Promise<number | undefined> {
  const port = Number(await readFile(files.port, 'utf8').catch(() => ''))
  return Number.isInteger(port) && port > 0 ? port : undefined
}

async function freePort(preferred: number | undefined): Promise<number> {
  if (preferred !== undefined && (await isFree(preferred))) return preferred
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to + 1)
    if (await isFree(port)) return port
  }
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const probe = createServer()
  probe.once('error', () => resolve(false))
  probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
  return promise
}

/** Nothing of ours: `PG…` variables are meant for clients, and our secrets are none of the server's business. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  )
}

/** The last lines of what was written after the first `from` bytes. */
async function tailOf(path: string, from: number): Promise<string> {
  const bytes = await readFile(path).catch(() => Buffer.alloc(0))
  return bytes.subarray(from).toString('utf8').trimEnd().split('\n').slice(-20).join('\n')
}

function outputOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const stderr = 'stderr' in error && typeof error.stderr === 'string' ? error.stderr.trim() : ''
  return stderr || error.message
}

export function connectionUrl({ port, password }: Address): string {
  return `postgresql://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`
}
