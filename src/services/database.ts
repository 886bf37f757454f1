import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { startEmbeddedPostgres } from '../embedded/postgres.ts'
import { type Database, createDatabase } from '../store/connection/database.ts'

export interface OpenDatabase extends AsyncDisposable {
  database: Database
}

/** The database named by the configuration, or the embedded one, as it is: not migrated. */
export async function openDatabase(config: Config, log: Logger): Promise<OpenDatabase> {
  await using stack = new AsyncDisposableStack()
  let url = config.databaseUrl
  if (url === null) {
    const embedded = await startEmbeddedPostgres({ dataDir: config.dataDir, log })
    stack.defer(() => embedded.stop())
    url = embedded.url
  }
  const database = createDatabase(url, { log })
  stack.defer(() => database.close())
  const opened = stack.move()
  return { database, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}
