import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createDatabase } from '../../../../src/store/connection/database.ts'
import { createTestDatabase, type TestDatabase } from '../../../helpers/database.ts'
import { startOwnPostgres } from '../../../helpers/own-postgres.ts'
import { SOON } from '../../../helpers/soon.ts'

let database: TestDatabase

beforeEach(async () => {
  database = await createTestDatabase({ maxConnections: 1 })
})

afterEach(() => database.drop())

test('a lost idle connection is reported, and the next statement gets a new one', async () => {
  const warned: unknown[] = []
  const log = { warn: (fields: unknown) => warned.push(fields) }
  const { prisma, close } = createDatabase(database.url, { maxConnections: 2, log })
  expect(await prisma.conversation.count()).toBe(0)

  await database.pool.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
  )
  await vi.waitFor(() => expect(warned).toMatchObject([{ err: { code: '57P01' } }]), SOON)
  expect(await prisma.conversation.count()).toBe(0)
  await close()
})

test('a statement is parsed once a connection, under a name made of its text', async () => {
  const touch = (refusals: number) =>
    database.prisma.$executeRaw`
      INSERT INTO kommo.rate_limits (channel_id, refusals) VALUES ('channel', ${refusals})
      ON CONFLICT (channel_id) DO UPDATE SET refusals = excluded.refusals`
  // Whether the session is its own is known once there is one.
  await database.prisma.$queryRaw`SELECT 1`
  for (const refusals of [1, 2, 3]) expect(await touch(refusals)).toBe(1)

  const { rows } = await database.pool.query<{ name: string; runs: number }>(
    `SELECT name, (generic_plans + custom_plans)::int AS runs FROM pg_prepared_statements
      WHERE statement LIKE '%kommo.rate_limits%'`,
  )
  expect(rows).toEqual([{ name: expect.stringMatching(/^s_[\w-]{24}$/), runs: 3 }])
})

test('texts beyond the first 200 stay unnamed, so that a connection does not collect them', async () => {
  for (let n = 0; n < 220; n += 1) await database.prisma.$queryRawUnsafe(`SELECT ${n}`)
  const { rows } = await database.pool.query('SELECT count(*)::int AS named FROM pg_prepared_statements')
  expect(rows).toEqual([{ named: 200 }])
})

test('a database that is away fails the statement, not the process', async () => {
  const { prisma, close } = createDatabase('postgresql://nobody@127.0.0.1:1/none', { maxConnections: 2 })
  await expect(prisma.$queryRaw`SELECT 1`).rejects.toThrow(/reach/)
  await close()
})

test('a statement that takes too long is ended, by the server too, and its connection is free again', async () => {
  // Long enough for a busy machine to connect in.
  const { prisma, pool, close } = createDatabase(database.url, { maxConnections: 1, timeoutMs: 1000 })
  await expect(prisma.$executeRaw`SELECT pg_sleep(30)`).rejects.toThrow(/statement timeout/)
  const { rows } = await pool.query(
    `SELECT count(*)::int AS sleeping FROM pg_stat_activity
     WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()`,
  )
  expect(rows).toEqual([{ sleeping: 0 }])
  await close()
})

test('a server that falls silent fails the statement, and the connection is let go of', async () => {
  await using server = await startOwnPostgres()
  const { prisma, pool, close } = createDatabase(server.url, { maxConnections: 1, timeoutMs: 500 })
  const session = () => prisma.$queryRaw`SELECT pg_backend_pid()`
  const first = await session()
  // Longer than a server may say nothing: of an idle connection nobody expects a word.
  await database.pool.query('SELECT pg_sleep(2)')
  expect(await session()).toEqual(first)

  await server.freeze()
  await expect(session()).rejects.toThrow(/said nothing for 1500 ms/)
  expect(pool.totalCount).toBe(0)
  await server.thaw()
  expect(await session()).not.toEqual(first)
  await close()
})

test('no more connections are made than were allowed, and who waits for one does not wait for ever', async () => {
  const { prisma, pool, close } = createDatabase(database.url, { maxConnections: 2, timeoutMs: 2000 })
  const clients = await Promise.all([pool.connect(), pool.connect()])
  await expect(prisma.$executeRaw`SELECT 1`).rejects.toThrow(/timeout exceeded/)
  expect(pool.totalCount).toBe(2)
  for (const client of clients) client.release()
  await prisma.$executeRaw`SELECT 1`
  await close()
})
