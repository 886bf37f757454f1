import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { migrate } from '../../src/store/migrations/migrate.ts'

export interface BenchServer extends AsyncDisposable {
  url: string
  /** An empty database with the current tables. @returns its address */
  createDatabase(): Promise<string>
}

const silent = { info() {}, warn() {}, error() {} }

/** The embedded Postgres with its defaults, every commit flushed to disk; or a server that is given. */
export async function openBenchServer(givenUrl?: string): Promise<BenchServer> {
  await using stack = new AsyncDisposableStack()
  let url = givenUrl
  if (url === undefined) {
    const dataDir = await mkdtemp(join(tmpdir(), 'kommo-sync-bench-'))
    stack.defer(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }))
    const embedded = await startEmbeddedPostgres({ dataDir, log: silent })
    stack.defer(() => embedded.stop())
    url = embedded.url
  }
  const serverUrl = url
  const prefix = `bench_${process.pid}_`
  const template = `${prefix}template`
  let made = 0
  await runOn(serverUrl, `CREATE DATABASE ${template}`)
  await migrate(databaseOn(serverUrl, template))
  stack.defer(async () => {
    await runOn(serverUrl, `DROP DATABASE ${template} WITH (FORCE)`)
    for (let number = 0; number < made; number += 1) {
      await runOn(serverUrl, `DROP DATABASE IF EXISTS ${prefix}${number} WITH (FORCE)`)
    }
  })

  const opened = stack.move()
  return {
    url: serverUrl,
    async createDatabase() {
      const name = `${prefix}${made++}`
      await runOn(serverUrl, `CREATE DATABASE ${name} TEMPLATE ${template}`)
      return databaseOn(serverUrl, name)
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}

function databaseOn(serverUrl: string, name: string): string {
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return url.href
}

async function runOn(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
