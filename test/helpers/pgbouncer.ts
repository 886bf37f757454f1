import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { vi } from 'vitest'
import { freePort } from './free-port.ts'

export interface PgBouncer extends AsyncDisposable {
  /** The same database, through the pooler. */
  url: string
  output(): string
}

/** `null` where it is not installed. */
export function pgbouncerVersion(): string | null {
  try {
    return /PgBouncer (\S+)/.exec(execFileSync('pgbouncer', ['--version'], { encoding: 'utf8' }))?.[1] ?? null
  } catch {
    return null
  }
}

/** A PgBouncer in transaction mode before the database, with so few connections that sessions must share them. */
export async function startPgBouncer(
  databaseUrl: string,
  settings: Record<string, string | number> = {},
): Promise<PgBouncer> {
  const { hostname, port: serverPort, username, password, pathname } = new URL(databaseUrl)
  const folder = await mkdtemp(join(tmpdir(), 'pgbouncer-'))
  const port = await freePort()
  const database = pathname.slice(1)
  const target = `host=${hostname} port=${serverPort} user=${username} password='${decodeURIComponent(password)}' dbname=${database}`
  const lines = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    auth_type: 'any',
    pool_mode: 'transaction',
    default_pool_size: 4,
    max_client_conn: 200,
    unix_socket_dir: '',
    ...settings,
  }
  const ini = join(folder, 'pgbouncer.ini')
  const options = Object.entries(lines).map(([name, value]) => `${name} = ${value}`)
  await writeFile(ini, ['[databases]', `${database} = ${target}`, '[pgbouncer]', ...options, ''].join('\n'))
  // It refuses to run as root, and then must read the file as somebody else.
  const isRoot = process.getuid?.() === 0
  await chmod(folder, 0o755)
  await chmod(ini, 0o644)
  const child = spawn('pgbouncer', [...(isRoot ? ['-u', 'nobody'] : []), ini], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const closed = once(child, 'close')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  }
  const url = new URL(databaseUrl)
  url.port = String(port)
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await closed
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await vi.waitFor(() => tryConnect(url.href), { timeout: 10_000, interval: 20 })
  } catch (error) {
    await stop()
    throw new Error(`PgBouncer does not start:\n${output}`, { cause: error })
  }
  return { url: url.href, output: () => output, [Symbol.asyncDispose]: stop }
}

async function tryConnect(connectionString: string): Promise<void> {
  const client = new Client({ connectionString })
  try {
    await client.connect()
    await client.query('SELECT 1')
  } finally {
    await client.end().catch(() => {})
  }
}
