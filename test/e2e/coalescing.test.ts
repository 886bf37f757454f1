import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { freshSeed } from '../helpers/fresh-seed.ts'
import { seededRandom } from '../helpers/seeded-random.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { untilSynced } from '../helpers/synced.ts'
import { type WebhookSender, createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

/** A round takes half a minute on two cores: one of them here, all ten with `SOAK=1`. */
const ROUNDS = process.env['SOAK'] === '1' ? 10 : 1
const CONVERSATIONS = 3_000
const WEBHOOKS_EACH = 3
const CONVERSATIONS_AT_ONCE = 48

let kommo: SimulatedKommo
let database: TestDatabase
let service: RunningService
let sender: WebhookSender
/** Also by a try that failed. */
let sent = 0

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  service = await startService({
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '10000',
  })
  sender = createWebhookSender(service.url, { connections: CONVERSATIONS_AT_ONCE })
})

afterAll(async () => {
  await sender?.[Symbol.asyncDispose]()
  await service?.stop()
  await database?.drop()
  await kommo?.close()
})

/** A manager writes three times; before the last webhook leaves, the client has written too, which no webhook tells. */
async function talk(conversation: Conversation, random: () => number, mostMs: number): Promise<void> {
  for (let number = 1; number <= WEBHOOKS_EACH; number++) {
    if (number === WEBHOOKS_EACH) conversation.clientWrites('last words')
    const message = conversation.addMessage({ from: 'manager', text: `number ${number}` })
    const { status } = await sender.send(kommo.webhooks.message(conversation, message))
    expect(status).toBe(200)
    sent += 1
    if (number < WEBHOOKS_EACH) await sleep(random() * mostMs)
  }
}

function startConversations(round: string, count: number): Conversation[] {
  return Array.from({ length: count }, (_, index) =>
    kommo.conversations.generate({ messages: index % 4, seed: freshSeed(`${round}/${index}`) }),
  )
}

async function expectNothingLeftBehind(conversations: readonly Conversation[]): Promise<void> {
  await untilReady(service)
  await untilSynced(database.pool, 120_000)
  const ids = conversations.map(({ id }) => id)
  const { rows: calls } = await database.pool.query(
    `SELECT conversation_id FROM kommo.webhook_events WHERE conversation_id = ANY($1) GROUP BY conversation_id
     HAVING array_agg(sync_request ORDER BY sync_request) <> (SELECT array_agg(n::bigint) FROM generate_series(1, $2) n)`,
    [ids, WEBHOOKS_EACH],
  )
  expect(calls).toEqual([])
  const { rows: counts } = await database.pool.query<{ id: string; requested: string; messages: number }>(
    `SELECT id, requested, (SELECT count(*)::int FROM kommo.messages m WHERE m.conversation_id = c.id) AS messages
     FROM kommo.conversations c WHERE id = ANY($1) AND history_complete AND requested = processed`,
    [ids],
  )
  const stored = new Map(counts.map(({ id, ...row }) => [id, row]))
  const wrong = conversations.filter(({ id, size }) => {
    const row = stored.get(id)
    return row?.requested !== String(WEBHOOKS_EACH) || row.messages !== size
  })
  expect(wrong.map(({ id, size }) => ({ id, size, stored: stored.get(id) }))).toEqual([])
}

test.each(Array.from({ length: ROUNDS }, (_, index) => index + 1))(
  `${CONVERSATIONS} conversations with ${WEBHOOKS_EACH} webhooks 0 to 12 ms apart leave none behind (round %i)`,
  async (round) => {
    const conversations = startConversations(`close ${round}`, CONVERSATIONS)
    const random = seededRandom(round)
    const startedAt = performance.now()
    const before = kommo.stats.snapshot().historyRequests
    await forEachAtOnce(conversations, CONVERSATIONS_AT_ONCE, (conversation) =>
      talk(conversation, random, 12),
    )
    const sentAfter = performance.now() - startedAt
    await expectNothingLeftBehind(conversations)
    const reads = kommo.stats.snapshot().historyRequests - before
    process.stdout.write(
      `round ${round}: sent in ${sentAfter.toFixed(0)} ms, synced after ${(performance.now() - startedAt).toFixed(0)} ms, ` +
        `${reads} history requests\n`,
    )
  },
  600_000,
)

test('webhooks that meet the claim, the read and the completion of a sync leave none behind', async () => {
  // Reads begin 250 ms after the first webhook and are 1 s apart: gaps of up to 0.7 s fall everywhere in between.
  const conversations = startConversations('wide', 400)
  const random = seededRandom(99)
  await forEachAtOnce(conversations, 200, (conversation) => talk(conversation, random, 700))
  await expectNothingLeftBehind(conversations)
})

test('the inbox holds each webhook once', async () => {
  const { rows } = await database.pool.query<{ total: string; different: string; processed: string }>(
    `SELECT count(*) AS total, count(DISTINCT body) AS different, count(processed_at) AS processed
     FROM kommo.webhook_events`,
  )
  const each = String(sent)
  expect(rows).toEqual([{ total: each, different: each, processed: each }])
  expect(sent).toBeGreaterThanOrEqual((ROUNDS * CONVERSATIONS + 400) * WEBHOOKS_EACH)
})
