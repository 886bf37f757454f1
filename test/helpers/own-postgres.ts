import { mkdtemp, readdir, readlink, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/postgres.ts'

export interface OwnPostgres extends AsyncDisposable {
  /** Stays the same through stops and starts. */
  url: string
  /** For looks at the tables; works again when the server is back. */
  pool: Pool
  stop(): Promise<void>
  /** Nothing, where it runs. */
  start(): Promise<void>
  /** It keeps its connections and answers nothing any more. */
  freeze(): Promise<void>
  thaw(): Promise<void>
}

const silent = { info() {}, warn() {}, error() {} }

/** A server for one test, which may do with it what it likes. */
export async function startOwnPostgres(): Promise<OwnPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'own-postgres-'))
  const start = () => startEmbeddedPostgres({ dataDir, log: silent, durable: false })
  let server: EmbeddedPostgres | null = await start()
  const { url } = server
  const pool = new Pool({ connectionString: url, max: 2 })
  pool.on('error', () => {})

  async function signal(name: NodeJS.Signals): Promise<void> {
    const data = await realpath(join(dataDir, 'postgres'))
    for (const pid of (await readdir('/proc')).map(Number).filter((n) => n > 0)) {
      const folder = await readlink(`/proc/${pid}/cwd`).catch(() => '')
      if (folder === data) process.kill(pid, name)
    }
  }

  return {
    url,
    pool,
    async stop() {
      await server?.stop()
      server = null
    },
    async start() {
      server ??= await start()
      if (server.url !== url) throw new Error('the server came back at another address')
    },
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    async [Symbol.asyncDispose]() {
      await signal('SIGCONT')
      await pool.end()
      await server?.stop()
      await rm(dataDir, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
