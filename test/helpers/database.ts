import { randomUUID } from 'node:crypto'
import { inject } from 'vitest'
import { createDatabase, type Database } from '../../src/store/connection/database.ts'
import { runOnServer } from './run-on-server.ts'

export interface TestDatabase extends Database {
  url: string
  /** Ends every session on it and removes it. */
  drop: () => Promise<void>
}

export interface TestDatabaseOptions {
  maxConnections?: number
  /** Without tables. */
  empty?: boolean
}

/** A database of its own with the current tables: a copy of the run's template. Connects when first used. */
export async function createTestDatabase({
  maxConnections = 5,
  empty = false,
}: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const { url: serverUrl, template } = inject('databaseServer')
  const name = `test_${randomUUID().replaceAll('-', '')}`
  await runOnServer(serverUrl, `CREATE DATABASE ${name} TEMPLATE ${empty ? 'template0' : template}`)
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  const database = createDatabase(url.href, { maxConnections })
  let dropped: Promise<void> | undefined
  return {
    ...database,
    url: url.href,
    drop: () =>
      (dropped ??= (async () => {
        await database.close()
        await runOnServer(serverUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
      })()),
  }
}
