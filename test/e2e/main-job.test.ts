import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { seededRandom, shuffled } from '../helpers/seeded-random.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { untilSynced } from '../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../helpers/truth.ts'
import { createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

const SEED = 20_260_501
const TIMES_EACH = 3
/** Around every edge of a page of 50, of which the next page repeats one; and a few long ones. */
const SIZES = [
  0, 0, 1, 1, 2, 3, 7, 12, 20, 21, 48, 49, 50, 51, 52, 97, 98, 99, 100, 101, 102, 146, 147, 148, 149, 150,
  151, 195, 196, 197, 250, 344, 437, 500, 640, 800, 1_000, 1_500, 2_100, 5_000,
]

interface Planned {
  kind: 'message' | 'typing' | 'reaction' | 'message_v1' | 'unknown'
  webhook: SignedWebhook
}

let kommo: SimulatedKommo
let database: TestDatabase
let service: RunningService
let conversations: Conversation[]
let planned: Planned[]

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  const other = kommo.account({ accountId: '77777777-6666-4555-8444-333333333333' })
  conversations = SIZES.map((messages, index) =>
    kommo.conversations.generate({
      messages,
      seed: `main job ${index}`,
      until: new Date('2026-01-15T12:00:00Z'),
      scopeId: index % 4 === 3 ? other.scopeId : kommo.scopeId,
      // Some chats were begun by a manager: they have no id of the integration's.
      ...(index % 7 === 5 ? { clientId: null } : {}),
    }),
  )
  database = await createTestDatabase()
  service = await startService({
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '2000',
  })

  const random = seededRandom(SEED)
  planned = conversations.flatMap((conversation) => webhooksFor(conversation, random))
  const deliveries = shuffled(Array.from({ length: TIMES_EACH }, () => planned).flat(), random)
  await using sender = createWebhookSender(service.url)
  const answers = new Map<number, number>()
  await forEachAtOnce(deliveries, 16, async ({ webhook }) => {
    const { status } = await sender.send(webhook)
    answers.set(status, (answers.get(status) ?? 0) + 1)
  })
  expect([...answers]).toEqual([[200, deliveries.length]])
  await untilReady(service)
  await untilSynced(database.pool, 200_000)
})

afterAll(async () => {
  await service?.stop()
  await database?.drop()
  await kommo?.close()
})

/** Several of different kinds, all about what exists already, with bodies written in both ways. */
function webhooksFor(conversation: Conversation, random: () => number): Planned[] {
  const { webhooks } = kommo
  const messages = [...conversation.messages()]
  const outgoing = shuffled(
    messages.filter(({ receiver }) => receiver !== null),
    random,
  )
  const escape = random() < 0.5 ? 'php' : 'utf8'
  const list: Planned[] = outgoing
    .slice(0, 1 + Math.floor(random() * 5))
    .map((message) => ({ kind: 'message', webhook: webhooks.message(conversation, message, { escape }) }))

  const userAt = random() < 0.5 ? 'typing' : 'action'
  list.push({ kind: 'typing', webhook: webhooks.typing(conversation, { escape, userAt }) })
  const reactedTo = messages[Math.floor(random() * messages.length)]
  if (reactedTo === undefined) {
    // An empty chat is told of by nothing but a kind of webhook that Kommo may add one day.
    const { id, clientId, accountId } = conversation
    const chat = { id, ...(clientId === null ? {} : { client_id: clientId }) }
    const body = { account_id: accountId, action: { pinned: { conversation: chat } } }
    list.push({ kind: 'unknown', webhook: webhooks.sign(conversation.scopeId, body) })
  } else {
    const shape = random() < 0.5 ? 'message' : 'msgid'
    const emoji = random() < 0.5 ? '❤️' : null
    list.push({ kind: 'reaction', webhook: webhooks.reaction(conversation, reactedTo, { shape, emoji }) })
  }
  const [first] = outgoing
  if (first !== undefined && random() < 0.3) {
    list.push({ kind: 'message_v1', webhook: webhooks.messageV1(conversation, first) })
  }
  return list
}

test('the sample has every type of message and every kind of webhook', () => {
  const types = new Set(
    conversations.flatMap((conversation) => [...conversation.messages()].map(({ type }) => type)),
  )
  expect([...types].toSorted()).toEqual([
    'audio',
    'contact',
    'file',
    'location',
    'picture',
    'sticker',
    'text',
    'video',
    'voice',
  ])
  expect([...new Set(planned.map(({ kind }) => kind))].toSorted()).toEqual([
    'message',
    'message_v1',
    'reaction',
    'typing',
    'unknown',
  ])
})

test('conversations, participants, messages and media equal the truth field by field', async () => {
  const expected = expectedTables(
    conversations,
    planned.filter(({ kind }) => kind === 'message').map(({ webhook }) => webhook.bytes),
  )
  const stored = await storedTables(database.pool)
  expect(differences(stored, expected)).toEqual([])
  expect(stored.messages.size).toBe(SIZES.reduce((sum, size) => sum + size, 0))
})

test('the inbox holds every webhook as often as it was sent, byte for byte, and only v1 has an error', async () => {
  const { rows } = await database.pool.query<{
    body: Buffer
    kind: string
    scope_id: string
    error: string | null
  }>('SELECT body, kind, scope_id, error FROM kommo.webhook_events')
  const stored = rows.map(({ body, kind, scope_id }) => `${kind} ${scope_id} ${body.toString('hex')}`)
  const sent = Array.from({ length: TIMES_EACH }, () =>
    planned.map(({ kind, webhook }) => {
      // v1 names no account: only the address tells the scope.
      return `${kind} ${webhook.scopeId} ${webhook.bytes.toString('hex')}`
    }),
  ).flat()
  expect(stored.toSorted()).toEqual(sent.toSorted())
  const failed = rows.filter(({ error }) => error !== null)
  expect(new Set(failed.map(({ kind }) => kind))).toEqual(new Set(['message_v1']))
  expect(failed).toHaveLength(rows.filter(({ kind }) => kind === 'message_v1').length)
})

test('the history is asked hardly more often than must be', async () => {
  const { historyRequests, byStatus } = kommo.stats.snapshot()
  const pages = SIZES.map(leastRequests).reduce((sum, requests) => sum + requests, 0)
  const late = await conversationsCalledLate()
  const percent = ((historyRequests / (pages + late) - 1) * 100).toFixed(1)
  process.stdout.write(
    `main job: ${SIZES.length} conversations, ${planned.length * TIMES_EACH} webhooks, ${historyRequests} history requests: ` +
      `${pages} for the pages, ${late} for late reactions, ${percent} % more than must be\n`,
  )
  expect(Object.keys(byStatus).every((status) => ['200', '204'].includes(status))).toBe(true)
  expect(historyRequests).toBeGreaterThanOrEqual(pages)
  expect(historyRequests / (pages + late)).toBeLessThanOrEqual(1.05)
})

/**
 * Conversations with a webhook that brings no message (a reaction, an unknown kind) after their first request: only
 * one more can tell whether there is news. How many there are depends on how fast the machine sends.
 */
async function conversationsCalledLate(): Promise<number> {
  const { rows } = await database.pool.query<{ id: string; last_at: Date }>(
    `SELECT conversation_id AS id, max(received_at) AS last_at FROM kommo.webhook_events
     WHERE kind IN ('reaction', 'unknown') GROUP BY conversation_id`,
  )
  const requests = kommo.stats.recent()
  return rows.filter(({ id, last_at: lastAt }) => {
    const first = requests.find(({ conversationId }) => conversationId === id)
    return first !== undefined && lastAt > first.at
  }).length
}

/**
 * Pages hold 50 and share one record, so each but the first brings 49 more: max(1, ceil((N-1)/49)) bring all; where the
 * last of these is full, nothing tells that it was the last, and one more is needed to see the end.
 */
function leastRequests(size: number): number {
  const bringing = Math.max(1, Math.ceil((size - 1) / 49))
  const onLastPage = size - (bringing - 1) * 49
  return onLastPage === 50 ? bringing + 1 : bringing
}
