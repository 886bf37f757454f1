import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'
import { showFigures } from '../helpers/soak.ts'
import { untilSynced } from '../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../helpers/truth.ts'
import { createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

const CONVERSATIONS = 100
const INTERVAL_MS = 8000
/** Rests are up to a tenth longer; then the reads themselves, on a machine that does other things too. */
const LATE_MS = 12_000

let kommo: SimulatedKommo
let database: TestDatabase
/** They go on while nobody receives; the others do not. */
let busy: Conversation[]
let quiet: Conversation[]
let env: Record<string, string>

beforeEach(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  const generate = (what: string) =>
    Array.from({ length: CONVERSATIONS }, (_, n) =>
      kommo.conversations.generate({
        messages: 1 + ((n * 7) % 130),
        until: new Date(),
        seed: `${what} ${n}`,
      }),
    )
  busy = generate('busy')
  quiet = generate('quiet')
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
  await untilSynced(database.pool)
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

async function findDifferences(): Promise<string[]> {
  const { rows } = await database.pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
  const truth = expectedTables(
    kommo.conversations.all(),
    rows.map(({ body }) => body),
  )
  return differences(await storedTables(database.pool), truth)
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

test(`with the receiver down, ${CONVERSATIONS} conversations that go on are whole an interval later; an unchanged one costs a request`, async () => {
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
  // Every quiet one has been read again too, and some are being read now.
  await vi.waitFor(
    async () => expect((await walksOf(quiet)) - before.walks).toBeGreaterThanOrEqual(2 * CONVERSATIONS),
    { timeout: 4 * INTERVAL_MS, interval: 100 },
  )
  const requests = requestsOf(quiet) - before.requests
  const walks = (await walksOf(quiet)) - before.walks
  showFigures({ wholeAfterMs, requests, walks })
  expect(requests / walks).toBeLessThanOrEqual(1.1)
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
  await vi.waitFor(async () => expect(await findDifferences()).toEqual([]), {
    timeout: 30_000,
    interval: 200,
  })
  await untilSynced(database.pool)
  expect(requestsOf(quiet) - before).toBeLessThanOrEqual(1.1 * CONVERSATIONS)
})
