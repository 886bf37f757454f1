import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { SOAK, showFigures } from '../helpers/soak.ts'
import { untilSynced } from '../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../helpers/truth.ts'
import { createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

const BUSY = 100
const QUIET = 50
const INTERVAL_MS = 15_000
/** Rests are up to a tenth longer. The short form runs on machines that have other things to do; the long form is exact. */
const LATE_MS = SOAK > 0 ? 5000 : 60_000

let kommo: SimulatedKommo
let database: TestDatabase
/** They go on while nobody receives; the others do not. */
let busy: Conversation[]
let quiet: Conversation[]
let env: Record<string, string>

beforeEach(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  const generate = (what: string, length: number) =>
    Array.from({ length }, (_, n) =>
      kommo.conversations.generate({
        messages: 1 + ((n * 7) % 130),
        until: new Date(),
        seed: `${what} ${n}`,
      }),
    )
  busy = generate('busy', BUSY)
  quiet = generate('quiet', QUIET)
  env = {
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '300',
  }
})
afterEach(async () => {
  await kommo.close()
  await database.drop()
})

/** A first webhook of each conversation, as long as somebody takes them. */
async function beginAll(url: string): Promise<void> {
  await using sender = createWebhookSender(url)
  await forEachAtOnce([...busy, ...quiet], 8, async (conversation) => {
    const message = conversation.addMessage({ from: 'manager', text: 'good morning' })
    expect((await sender.send(kommo.webhooks.message(conversation, message))).status).toBe(200)
  })
  await untilReady({ url })
  await untilSynced(database.pool, 120_000)
}

/** Clients and managers write; Kommo sends the webhooks once, to nobody. */
async function goOn(url: string): Promise<void> {
  await using sender = createWebhookSender(url)
  await forEachAtOnce(busy, 8, async (conversation) => {
    for (let n = 0; n <= conversation.size % 3; n += 1) conversation.clientWrites(`are you there? ${n}`)
    const message = conversation.addMessage({ from: 'manager', text: 'yes, we are' })
    await expect(sender.send(kommo.webhooks.message(conversation, message))).rejects.toThrow('ECONNREFUSED')
  })
}

/** Not of the conversations' own rows: one that is just being read again is behind, rightly. */
async function findDifferences(): Promise<string[]> {
  const { rows } = await database.pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
  const truth = expectedTables(
    kommo.conversations.all(),
    rows.map(({ body }) => body),
  )
  const stored = await storedTables(database.pool)
  return differences({ ...stored, conversations: new Map() }, { ...truth, conversations: new Map() })
}

const requestsOf = (conversations: readonly Conversation[]) =>
  conversations.reduce((sum, { id }) => sum + kommo.stats.historyRequestsOf(id), 0)

async function walksOf(conversations: readonly Conversation[]): Promise<number> {
  const { rows } = await database.pool.query<{ walks: number }>(
    'SELECT sum(walks_completed)::int AS walks FROM kommo.conversations WHERE id = ANY ($1)',
    [conversations.map(({ id }) => id)],
  )
  return rows[0]?.walks ?? 0
}

test(`with the receiver down, ${BUSY} conversations that go on are whole an interval later; an unchanged one costs a request`, async () => {
  await using _worker = await startService({
    ...env,
    ROLE: 'worker',
    RECONCILE_INTERVAL: `${INTERVAL_MS / 1000}s`,
  })
  const receiver = await startService({ ...env, ROLE: 'receiver' })
  await beginAll(receiver.url)
  await receiver.stop('SIGKILL')
  await goOn(receiver.url)

  const downAt = performance.now()
  const before = { requests: requestsOf(quiet), walks: await walksOf(quiet) }
  await vi.waitFor(async () => expect(await findDifferences()).toEqual([]), {
    timeout: INTERVAL_MS + LATE_MS,
    interval: 200,
  })
  const wholeAfterMs = Math.round(performance.now() - downAt)
  // The quiet ones have been read again too, and some may be read now.
  await vi.waitFor(
    async () => {
      const requests = requestsOf(quiet) - before.requests
      const walks = (await walksOf(quiet)) - before.walks
      expect(walks).toBeGreaterThanOrEqual(QUIET)
      expect(requests / walks).toBeLessThanOrEqual(1.1)
      showFigures({ wholeAfterMs, requests, walks })
    },
    { timeout: 2 * INTERVAL_MS + LATE_MS, interval: 100 },
  )
})

test('after the whole service was away, what went on is read at once, whatever the interval, and what did not costs a request', async () => {
  const service = await startService({ ...env, RECONCILE_INTERVAL: '1h' })
  await beginAll(service.url)
  await service.stop()
  await goOn(service.url)
  // Away for an hour: the test does not wait for it.
  await database.pool.query("UPDATE kommo.replicas SET seen_at = seen_at - interval '1 h'")
  const before = requestsOf(quiet)

  await using _back = await startService({ ...env, RECONCILE_INTERVAL: '1h' })
  await vi.waitFor(async () => expect(await findDifferences()).toEqual([]), { ...SOON, interval: 200 })
  await untilSynced(database.pool)
  expect(requestsOf(quiet) - before).toBeLessThanOrEqual(1.1 * QUIET)
})
