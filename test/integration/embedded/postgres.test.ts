import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { startEmbeddedPostgres } from '../../../src/embedded/postgres.ts'
import { SOON } from '../../helpers/soon.ts'

const USER_SCRIPT = fileURLToPath(new URL('../../helpers/embedded-user.ts', import.meta.url))
const NOBODY = 65_534
const isRoot = process.getuid?.() === 0
const silent = { info() {}, warn() {}, error() {} }

let used: string
let folder: string
let dataDir: string
const children: ChildProcess[] = []

beforeAll(async () => {
  used = await mkdtemp(join(tmpdir(), 'kommo-sync-embedded-'))
  const server = await startEmbeddedPostgres({ dataDir: used, log: silent, durable: false })
  await remember(server.url)
  await server.stop()
})

afterAll(() => rm(used, { recursive: true, force: true }))

beforeEach(async () => {
  // Only its owner may enter it.
  folder = await mkdtemp(join(tmpdir(), 'kommo-sync-embedded-'))
  dataDir = join(folder, 'data')
})

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  const left = await serversIn(dataDir)
  for (const pid of left) process.kill(pid, 'SIGKILL')
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  if (left.length > 0) throw new Error(`a server was left behind: ${left.join(' ')}`)
})

/** The folder that every test may use which leaves it as it was: a first start takes a second. */
const useFilledFolder = () => {
  dataDir = used
}

const start = () => startEmbeddedPostgres({ dataDir, log: silent, durable: false })

/** Another process that uses the folder's server. */
async function startUser(options: { uid?: number; gid?: number; env?: NodeJS.ProcessEnv } = {}) {
  const child = spawn(process.execPath, [USER_SCRIPT, dataDir], { stdio: 'pipe', cwd: '/', ...options })
  children.push(child)
  const errors: Buffer[] = []
  child.stderr.on('data', (bytes: Buffer) => errors.push(bytes))
  const exited = once(child, 'exit')
  const first: unknown = await Promise.race([once(child.stdout, 'data'), exited])
  const url = String(Array.isArray(first) ? first[0] : '').trim()
  if (!url.startsWith('postgresql:')) throw new Error(`no server: ${Buffer.concat(errors).toString()}`)
  return {
    url,
    async leave() {
      child.stdin.write('stop\n')
      await exited
      if (child.exitCode !== 0) throw new Error(`could not leave: ${Buffer.concat(errors).toString()}`)
    },
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** Postgres works inside its data folder, and so do all of its processes. */
async function serversIn(dir: string): Promise<number[]> {
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const cwd = await readlink(`/proc/${name}/cwd`).catch(() => '')
    if (cwd.startsWith(join(dir, 'postgres'))) found.push(Number(name))
  }
  return found
}

async function postmaster(): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'), 10)
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url })
  client.on('error', () => {})
  try {
    await client.connect()
    return (await client.query({ text: sql, rowMode: 'array' })).rows.flat()
  } finally {
    await client.end().catch(() => {})
  }
}

const remember = (url: string) => query(url, 'CREATE TABLE memory AS SELECT 42 AS answer')
const recall = (url: string) => query(url, 'SELECT answer FROM memory')

test('data, address and password survive a restart', async () => {
  useFilledFolder()
  const first = await start()
  await first.stop()
  expect(await serversIn(dataDir)).toEqual([])

  const second = await start()
  expect(second.url).toBe(first.url)
  expect(await recall(second.url)).toEqual([42])
  await second.stop()
})

test('the server listens on loopback only, asks for a password, sorts the same everywhere and keeps UTC', async () => {
  useFilledFolder()
  const server = await start()
  expect(
    await query(
      server.url,
      `SELECT current_setting(name) FROM unnest(ARRAY['listen_addresses','unix_socket_directories','TimeZone','server_encoding']) name`,
    ),
  ).toEqual(['127.0.0.1', '', 'UTC', 'UTF8'])
  expect(
    await query(
      server.url,
      `SELECT datlocprovider::text, datlocale FROM pg_database WHERE datname = 'kommo'`,
    ),
  ).toEqual(['b', 'C.UTF-8'])
  const wrong = new URL(server.url)
  wrong.password = 'wrong'
  await expect(query(wrong.href, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' })
  expect((await stat(join(dataDir, 'postgres.password'))).mode & 0o777).toBe(0o600)
  await server.stop()
})

test('several that start at once on a new folder share one server, stopped by the last', async () => {
  // Left behind by a first start that was interrupted.
  await mkdir(join(dataDir, 'postgres.init-half', 'base'), { recursive: true })
  const users = await Promise.all([startUser(), startUser(), startUser()])
  expect(new Set(users.map((user) => user.url)).size).toBe(1)
  await Promise.all(users.map((user) => user.leave()))
  expect(await serversIn(dataDir)).toEqual([])
  expect((await readdir(dataDir)).toSorted()).toEqual([
    'postgres',
    'postgres.log',
    'postgres.password',
    'postgres.port',
  ])
})

test('a second process does not stop the server of the first', async () => {
  useFilledFolder()
  const service = await start()
  const cli = await startUser()
  expect(cli.url).toBe(service.url)
  await cli.leave()
  expect(await query(service.url, 'SELECT 1')).toEqual([1])
  await service.stop()
})

test('a service that leaves while a command still works leaves the server to the command', async () => {
  useFilledFolder()
  const service = await start()
  const cli = await startUser()
  await service.stop()
  expect(await query(cli.url, 'SELECT 1')).toEqual([1])
  await cli.leave()
  expect(await serversIn(dataDir)).toEqual([])
})

test('a server whose owner was killed is adopted, with its data', async () => {
  useFilledFolder()
  const killed = await startUser()
  const pid = await postmaster()
  await killed.kill()

  const next = await start()
  expect(await postmaster()).toBe(pid)
  expect(next.url).toBe(killed.url)
  expect(await recall(next.url)).toEqual([42])
  await next.stop()
})

test('a killed server comes back under the same address while somebody uses it', async () => {
  useFilledFolder()
  const service = await start()
  const cli = await startUser()
  for (let round = 0; round < 2; round += 1) {
    const pid = await postmaster()
    process.kill(pid, 'SIGKILL')
    await vi.waitFor(async () => {
      expect(await recall(service.url)).toEqual([42])
      expect(await postmaster()).not.toBe(pid)
    }, SOON)
  }
  await cli.leave()
  // The command may have been the first to bring it back, and so the last to be there: then the service does it again.
  await vi.waitFor(async () => expect(await recall(service.url)).toEqual([42]), SOON)
  await service.stop()
})

test('a server that was killed together with its owner recovers', async () => {
  useFilledFolder()
  const killed = await startUser()
  await killed.kill()
  process.kill(await postmaster(), 'SIGKILL')

  const next = await start()
  expect(next.url).toBe(killed.url)
  expect(await recall(next.url)).toEqual([42])
  await next.stop()
})

test('a lock file and a server file that name strangers do not stop the start', async () => {
  useFilledFolder()
  const dead = spawnSync(process.execPath, ['--version']).pid
  await writeFile(join(dataDir, 'postgres.lock'), `${dead} left-behind`)
  // A process id that was given again, to this very process.
  await writeFile(
    join(dataDir, 'postgres', 'postmaster.pid'),
    `${process.pid}\n${dataDir}/postgres\n1\n1\n`,
    {
      mode: 0o600,
    },
  )

  const server = await start()
  expect(await recall(server.url)).toEqual([42])
  await server.stop()
})

test('a server that does not start shows the end of its own log', async () => {
  useFilledFolder()
  const path = join(dataDir, 'postgres', 'PG_VERSION')
  const version = await readFile(path, 'utf8')
  await writeFile(path, '9\n')
  await expect(start()).rejects.toMatchObject({
    code: 'embedded_postgres',
    message: expect.stringMatching(/did not start.*incompatible/s),
  })
  await writeFile(path, version)
})

test('a folder that cannot be used is a fault of the configuration', async () => {
  await writeFile(join(folder, 'data'), 'not a folder')
  await expect(start()).rejects.toMatchObject({
    code: 'config',
    message: expect.stringContaining('DATA_DIR'),
  })
})

describe.runIf(isRoot)('as root', () => {
  test('the server runs in a folder that only root may enter, and its files stay with root', async () => {
    useFilledFolder()
    const server = await start()
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700)
    expect((await stat(join(dataDir, 'postgres'))).uid).toBe(0)
    await server.stop()
  })

  test('a folder of an ordinary user gets a server of that user', async () => {
    await chmod(folder, 0o711)
    await mkdir(dataDir, { mode: 0o700 })
    await chown(dataDir, NOBODY, NOBODY)
    const server = await start()
    expect((await stat(`/proc/${await postmaster()}`)).uid).toBe(NOBODY)
    await server.stop()
    expect((await stat(join(dataDir, 'postgres.password'))).uid).toBe(NOBODY)
  })

  test('without unshare the server runs as nobody', async () => {
    await chmod(folder, 0o711)
    const bin = await programsWithoutUnshare()
    const first = await startUser({ env: { PATH: bin } })
    expect((await stat(`/proc/${await postmaster()}`)).uid).toBe(NOBODY)
    await remember(first.url)
    await first.leave()

    const second = await start()
    expect(await recall(second.url)).toEqual([42])
    await second.stop()
  })

  test('without unshare a folder that only root may enter is refused, with what to do', async () => {
    const bin = await programsWithoutUnshare()
    await expect(startUser({ env: { PATH: bin } })).rejects.toThrow(/ordinary user.*DATABASE_URL/s)
  })

  test.runIf(canOrdinaryUserRun())('an ordinary user needs nothing else', async () => {
    await chmod(folder, 0o711)
    await mkdir(dataDir, { mode: 0o700 })
    await chown(dataDir, NOBODY, NOBODY)
    const user = await startUser({ uid: NOBODY, gid: NOBODY })
    expect((await stat(`/proc/${await postmaster()}`)).uid).toBe(NOBODY)
    await remember(user.url)
    await user.leave()
  })
})

/** A folder of programs with `ls` only. */
async function programsWithoutUnshare(): Promise<string> {
  const bin = join(folder, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'ls'), '#!/bin/sh\nexec /bin/ls "$@"\n', { mode: 0o755 })
  return bin
}

/** In a checkout that only root may enter, nobody else can start anything. */
function canOrdinaryUserRun(): boolean {
  if (!isRoot) return false
  const code = `require('node:fs').readFileSync(${JSON.stringify(USER_SCRIPT)})`
  return spawnSync(process.execPath, ['-e', code], { uid: NOBODY, gid: NOBODY, cwd: '/' }).status === 0
}
