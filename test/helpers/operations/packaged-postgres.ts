import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { vi } from 'vitest'
import { chooseIdentity } from '../../../src/embedded/identity.ts'
import { freePort } from '../free-port.ts'
import { startOwnPostgres } from '../own-postgres.ts'
import { majorOf, versionOf } from './tools.ts'

const EMBEDDED_MAJOR = 18

export interface PostgresServer extends AsyncDisposable {
  /** Of one of its databases, whether it exists or not. */
  urlOf(database: string): string
}

/** Where Debian puts the server that belongs to the clients on the path. */
function packagedBinaries(): string | null {
  const version = versionOf('pg_dump')
  const folder = version === null ? null : `/usr/lib/postgresql/${majorOf(version)}/bin`
  return folder !== null && existsSync(join(folder, 'postgres')) ? folder : null
}

/** Whether the `pg_dump` on the path can dump what `startDumpableServer` starts. */
export function hasDumpableServer(): boolean {
  const version = versionOf('pg_dump')
  return version !== null && (majorOf(version) >= EMBEDDED_MAJOR || packagedBinaries() !== null)
}

/** A server for one test: the packaged one if there is one, because `pg_dump` refuses a newer one; else the embedded one. */
export async function startDumpableServer(): Promise<PostgresServer> {
  const binaries = packagedBinaries()
  if (binaries !== null) return startPackaged(binaries)
  const server = await startOwnPostgres()
  return {
    urlOf: (database) => urlAt(server.url, database),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

async function startPackaged(binaries: string): Promise<PostgresServer> {
  const folder = await mkdtemp(join(tmpdir(), 'packaged-postgres-'))
  const data = join(folder, 'data')
  const { prefix, owner } = await chooseIdentity(folder, join(binaries, 'postgres'))
  const asIdentity = (program: string, args: readonly string[]) => {
    const [file = program, ...rest] = [...prefix, join(binaries, program), ...args]
    return { file, rest, options: { ...owner, cwd: folder } }
  }
  const password = 'invented-password'
  await writeFile(join(folder, 'password'), password)
  const initdb = asIdentity('initdb', [
    `--pgdata=${data}`,
    '--username=kommo',
    `--pwfile=${join(folder, 'password')}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
  ])
  await promisify(execFile)(initdb.file, initdb.rest, initdb.options)

  const port = await freePort()
  const settings = [`port=${port}`, 'listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off']
  const server = asIdentity('postgres', ['-D', data, ...settings.flatMap((setting) => ['-c', setting])])
  const child = spawn(server.file, server.rest, { ...server.options, stdio: 'ignore' })
  const closed = once(child, 'close')
  const serverUrl = `postgresql://kommo:${password}@127.0.0.1:${port}/postgres`
  const stop = async () => {
    child.kill('SIGINT')
    await closed
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    await vi.waitFor(() => tryConnect(serverUrl), { timeout: 20_000, interval: 50 })
  } catch (error) {
    await stop()
    throw error
  }
  return { urlOf: (database) => urlAt(serverUrl, database), [Symbol.asyncDispose]: stop }
}

async function tryConnect(url: string): Promise<void> {
  const client = new Client({ connectionString: url })
  try {
    await client.connect()
  } finally {
    await client.end().catch(() => {})
  }
}

function urlAt(serverUrl: string, database: string): string {
  const url = new URL(serverUrl)
  url.pathname = `/${database}`
  return url.href
}
