import { Registry } from 'prom-client'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { addHealthMetrics } from '../../../src/services/health-metrics.ts'
import { blockChannel } from '../../../src/store/rate-limits.ts'
import { readSyncHealth } from '../../../src/store/sync-health.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'

const CHANNEL = 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354'
const OTHER = '1d2e3f40-5a6b-4c7d-8e9f-a0b1c2d3e4f5'

let database: TestDatabase
let registry: Registry

beforeAll(async () => {
  database = await createTestDatabase()
})
beforeEach(async () => {
  registry = new Registry()
  await database.pool.query('TRUNCATE kommo.conversations, kommo.webhook_events, kommo.rate_limits CASCADE')
})
afterAll(() => database.drop())

const add = (options: Partial<Parameters<typeof addHealthMetrics>[0]> = {}) =>
  addHealthMetrics({
    registry,
    channelIds: [CHANNEL, OTHER],
    read: () => readSyncHealth(database.prisma),
    ...options,
  })

/** The figures of an answer to a scrape. */
async function scrape(): Promise<Record<string, number>> {
  const lines = (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(
    lines.map((line) => {
      const space = line.lastIndexOf(' ')
      return [line.slice(0, space).replace('kommo_sync_', ''), Number(line.slice(space))]
    }),
  )
}

test('nothing stored is nothing behind', async () => {
  add()
  expect(await scrape()).toEqual({
    database_up: 1,
    'conversations{state="behind"}': 0,
    'conversations{state="failing"}': 0,
    'conversations{state="dead"}': 0,
    [`channel_blocked{channel_id="${CHANNEL}"}`]: 0,
    [`channel_blocked{channel_id="${OTHER}"}`]: 0,
    oldest_behind_age_seconds: 0,
    webhooks_waiting: 0,
    oldest_waiting_webhook_age_seconds: 0,
  })
})

test('what is behind, failing, dead, waiting and blocked is counted, with the age of the oldest', async () => {
  await database.pool.query(`
    INSERT INTO kommo.conversations (id, scope_id, requested, processed, attempts, dead_at, run_after, updated_at) VALUES
      ('due', '${CHANNEL}_a', 2, 1, 0, NULL, now() - interval '1 hour', now()),
      ('failing', '${CHANNEL}_a', 2, 1, 3, NULL, now() + interval '1 min', now()),
      ('dead', '${CHANNEL}_a', 2, 1, 9, now(), now(), now()),
      ('well', '${CHANNEL}_a', 1, 1, 0, NULL, now(), now())`)
  await database.pool.query(`
    INSERT INTO kommo.webhook_events (scope_id, kind, body, received_at, processed_at) VALUES
      ('${CHANNEL}_a', 'message', '{}', now() - interval '90 s', NULL),
      ('${CHANNEL}_a', 'message', '{}', now(), NULL),
      ('${CHANNEL}_a', 'message', '{}', now() - interval '1 day', now())`)
  await blockChannel(database.prisma, OTHER, { pauseMs: 60_000, firstPauseMs: 1, reason: 'too many' })
  add()
  const seen = await scrape()
  expect(seen).toMatchObject({
    'conversations{state="behind"}': 2,
    'conversations{state="failing"}': 1,
    'conversations{state="dead"}': 1,
    [`channel_blocked{channel_id="${CHANNEL}"}`]: 0,
    [`channel_blocked{channel_id="${OTHER}"}`]: 1,
    webhooks_waiting: 2,
  })
  expect(Math.floor((seen['oldest_behind_age_seconds'] ?? 0) / 60)).toBe(60)
  expect(Math.floor((seen['oldest_waiting_webhook_age_seconds'] ?? 0) / 10)).toBe(9)
})

test('scrapes within the time of the cache cost the database one look', async () => {
  let looks = 0
  let now = 0
  add({
    now: () => now,
    cacheMs: 10_000,
    read() {
      looks += 1
      return readSyncHealth(database.prisma)
    },
  })
  await Promise.all([scrape(), scrape()])
  now = 9999
  await scrape()
  expect(looks).toBe(1)
  now = 10_000
  await scrape()
  expect(looks).toBe(2)
})

test.each<[string, () => Promise<never>]>([
  ['fails', () => Promise.reject(new Error('away'))],
  ['does not answer', () => new Promise(() => {})],
])('while the database %s its figures are absent, and come back', async (_name, fail) => {
  let read: () => ReturnType<typeof readSyncHealth> = () => readSyncHealth(database.prisma)
  add({ cacheMs: 0, timeoutMs: 2000, read: () => read() })
  const before = await scrape()
  read = fail
  expect(await scrape()).toEqual({ database_up: 0 })
  read = () => readSyncHealth(database.prisma)
  expect(Object.keys(await scrape())).toEqual(Object.keys(before))
})
