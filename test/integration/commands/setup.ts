import { startSimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import type { Conversation } from '../../../src/simulated-kommo/conversation.ts'
import { createTestDatabase } from '../../helpers/database.ts'
import { type CommandOutcome, runHere } from '../../helpers/command.ts'

export type CommandSetup = Awaited<ReturnType<typeof setUpCommands>>

/** A database, a simulated Kommo, and the command line between them. */
export async function setUpCommands() {
  const database = await createTestDatabase()
  const kommo = await startSimulatedKommo()
  const env = {
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '1000',
  }
  const run = (...args: string[]): Promise<CommandOutcome> => runHere(args, env)
  return {
    database,
    kommo,
    env,
    run,
    /** Reads the conversations into the tables. */
    async backfill(...conversations: Conversation[]) {
      const result = await run('backfill', ...conversations.map(({ id }) => id), '--scope', kommo.scopeId)
      if (result.code !== 0) throw new Error(result.stdout + result.stderr)
    },
    sql: async <Row extends object>(text: string, values: unknown[] = []): Promise<Row[]> =>
      (await database.pool.query<Row>(text, values)).rows,
    /** Everything but the clock's marks, to tell whether a command changed anything. */
    async contents() {
      const tables = [
        'conversations',
        'participants',
        'messages',
        'media',
        'webhook_events',
        'message_revisions',
      ]
      const rows = await Promise.all(
        tables.map(
          async (name) => (await database.pool.query(`SELECT * FROM kommo.${name} ORDER BY 1`)).rows,
        ),
      )
      return new Map(tables.map((name, place) => [name, rows[place]]))
    },
    async close() {
      await kommo.close()
      await database.drop()
    },
  }
}
