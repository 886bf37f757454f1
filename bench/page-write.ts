import { Client, Pool } from 'pg'
import type { MappedRecord } from '../src/domain/message.ts'
import { startSimulatedKommo } from '../src/simulated-kommo/simulated-kommo.ts'
import { callForSync } from '../src/store/conversations.ts'
import { type Database, createDatabase } from '../src/store/connection/database.ts'
import type { Queryable } from '../src/store/connection/queryable.ts'
import { storeRecords } from '../src/store/records.ts'
import type { Bench } from './harness/bench.ts'
import { PAGE_SIZE, mappedPage } from './harness/pages.ts'
import { createRawQueryable } from '../src/store/connection/raw-queryable.ts'
import { createStatementNames } from '../src/store/connection/statement-names.ts'
import { figure, figureOf, inTurns, ratioOf, side } from './harness/rounds.ts'
import { createInlineStore } from './peers/inline-store.ts'

/** Of each page the older half is stored already. */
const NEWS = PAGE_SIZE / 2

export const pageWrite: Bench = {
  name: 'page-write',
  question: 'what does Prisma cost a page of 50 messages, and what does an unchanged page write?',
  async run({ server, smoke, rounds }) {
    const pages = smoke ? 3 : 100
    const names = createStatementNames(() => true)
    await using stack = new AsyncDisposableStack()
    const kommo = await startSimulatedKommo()
    stack.defer(() => kommo.close())

    /** A writer with a database of its own: all store the same pages, in the same order. */
    async function writer(
      store: (records: MappedRecord[], number: number) => Promise<unknown>,
      db: Queryable,
      name: string,
    ) {
      let round = 0
      let stored: MappedRecord[][] = []
      const mixed = side(`${name}, half new`, 'rows/s', async () => {
        const size = (pages + 1) * NEWS
        const conversation = kommo.conversations.generate({ messages: size, seed: `${name} ${round}` })
        round += 1
        const { id: conversationId, scopeId } = conversation
        await callForSync(db, { conversationId, scopeId, full: false, patient: false })
        const at = new Date()
        // From the oldest page to the newest, so that each repeats half of the one before.
        stored = Array.from({ length: pages }, (_, page) =>
          mappedPage(conversation, size - PAGE_SIZE - page * NEWS, at),
        )
        return rowsPerSecond(stored, store)
      })
      const unchanged = side(`${name}, unchanged`, 'rows/s', () => rowsPerSecond(stored, store))
      return { mixed, unchanged }
    }

    const oursUrl = await server.createDatabase()
    const database = createDatabase(oursUrl, { maxConnections: 1 })
    stack.defer(() => database.close())
    const ours = await writer(
      (records) => storeRecords(database.prisma, records, 1),
      database.prisma,
      'through Prisma',
    )

    const client = new Client({ connectionString: await server.createDatabase() })
    await client.connect()
    stack.defer(() => client.end())
    const rawDb = createRawQueryable(client, names)
    const raw = await writer(
      (records) => storeRecords(rawDb, records, 1),
      rawDb,
      'through the raw driver, prepared',
    )

    const pool = new Pool({ connectionString: await server.createDatabase(), max: 10 })
    stack.defer(() => pool.end())
    const inlineStore = createInlineStore(pool)
    const inline = await writer(
      (records) => inlineStore.storeRecords(records, conversationOf(records)),
      createRawQueryable(pool, names),
      "stripe-sync-engine's way",
    )

    // `unchanged` always follows `mixed`: it writes the same pages again.
    await inTurns(
      [ours, raw, inline].map(({ mixed, unchanged }) => ({
        ...mixed,
        measure: async () => {
          const perSecond = await mixed.measure()
          unchanged.samples.push(await unchanged.measure())
          return perSecond
        },
      })),
      rounds,
    )
    for (const { unchanged } of [ours, raw, inline]) unchanged.samples.shift()
    const written = await rowsWrittenBy(database, ours.unchanged.measure)

    return {
      settings: { pages, 'messages each': PAGE_SIZE, connections: 1, rounds },
      figures: [ours, raw, inline].flatMap(({ mixed, unchanged }) => [figureOf(mixed), figureOf(unchanged)]),
      answers: [
        {
          question: 'pages half new, Prisma against raw',
          asked: { least: 0.9 },
          measured: ratioOf(ours.mixed, raw.mixed),
        },
        {
          question: 'pages unchanged, Prisma against raw',
          asked: { least: 0.9 },
          measured: ratioOf(ours.unchanged, raw.unchanged),
        },
        {
          question: 'rows written by unchanged pages',
          asked: { most: 0 },
          measured: figure('rows written', '', [written]),
        },
      ],
    }
  },
}

async function rowsPerSecond(
  pages: readonly MappedRecord[][],
  store: (records: MappedRecord[], number: number) => Promise<unknown>,
): Promise<number> {
  const startedAt = performance.now()
  let rows = 0
  for (const [number, records] of pages.entries()) {
    await store(records, number)
    rows += records.length
  }
  return (rows / (performance.now() - startedAt)) * 1000
}

function conversationOf(records: readonly MappedRecord[]) {
  const first = records.find((record) => record.kind === 'mapped')?.message
  return {
    id: first?.conversationId,
    scope_id: first?.scopeId,
    client_id: null,
    last_message_at: first?.sentAt,
  }
}

/** Inserted, updated or deleted, in all tables of the database. */
async function rowsWrittenBy({ pool }: Database, work: () => Promise<unknown>): Promise<number> {
  const count = async (): Promise<number> => {
    // A session tells what it did at most once a second; this one is the only that writes.
    await pool.query('SELECT pg_stat_force_next_flush()')
    const { rows } = await pool.query<{ sum: string }>(
      `SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) AS sum FROM pg_stat_user_tables WHERE schemaname = 'kommo'`,
    )
    return Number(rows[0]?.sum)
  }
  const before = await count()
  await work()
  return (await count()) - before
}
