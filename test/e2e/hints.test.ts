import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { freshSeed } from '../helpers/fresh-seed.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { untilSynced } from '../helpers/synced.ts'
import { createWebhookSender } from '../helpers/webhook-sender.ts'

const TOKEN = 'a-token-in-the-address-0001'
const ADMIN_TOKEN = 'operator-token-0001'

let kommo: SimulatedKommo
let database: TestDatabase
let env: Record<string, string>
let service: RunningService

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  env = {
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '100',
    RECONCILE_INTERVAL: '0',
    ADMIN_TOKEN,
  }
  service = await startService({
    ...env,
    KOMMO_HINTS: JSON.stringify([{ scope_id: kommo.scopeId, token: TOKEN }]),
  })
})
afterAll(async () => {
  await service?.stop()
  await kommo?.close()
  await database?.drop()
})

/** What the account's own webhook says of a message that a client wrote. */
const hint = ({ url }: RunningService, { id }: Conversation, token = TOKEN) =>
  fetch(`${url}/hints/kommo/${token}`, {
    method: 'POST',
    body: new URLSearchParams({
      'message[add][0][chat_id]': id,
      'message[add][0][text]': 'not to be believed',
      'message[add][0][type]': 'incoming',
    }),
  })

/** A conversation that has been read once. */
async function knownConversation(seed: string): Promise<Conversation> {
  const conversation = kommo.conversations.generate({ messages: 20, seed: freshSeed(seed) })
  await using sender = createWebhookSender(service.url)
  const message = conversation.addMessage({ from: 'manager', text: 'hello' })
  await sender.send(kommo.webhooks.message(conversation, message))
  await untilReady(service)
  await untilSynced(database.pool)
  return conversation
}

async function textsOf({ id }: Conversation): Promise<(string | null)[]> {
  const rows = await database.prisma.message.findMany({ where: { conversationId: id } })
  return rows.map(({ text }) => text)
}

test('what a client writes is there soon after a hint, and nothing of the hint itself is', async () => {
  const conversation = await knownConversation('hint')
  conversation.clientWrites('is anybody there?')
  expect((await hint(service, conversation)).status).toBe(200)
  await vi.waitFor(async () => expect(await textsOf(conversation)).toContain('is anybody there?'), SOON)
  expect(await textsOf(conversation)).not.toContain('not to be believed')
})

test('hints, operator calls and webhooks of one moment share their reads', async () => {
  const conversation = await knownConversation('together')
  const before = kommo.stats.historyRequestsOf(conversation.id)
  await using sender = createWebhookSender(service.url)
  const startedAt = performance.now()
  const answers = await Promise.all(
    Array.from({ length: 10 }, async (_, n) => {
      const message = conversation.addMessage({ from: 'manager', text: `number ${n}` })
      const calls = await Promise.all([
        sender.send(kommo.webhooks.message(conversation, message)),
        hint(service, conversation),
        fetch(`${service.url}/conversations/${conversation.id}/sync`, {
          method: 'POST',
          headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
        }),
      ])
      return calls.map(({ status }) => status)
    }),
  )
  expect(new Set(answers.flat())).toEqual(new Set([200, 202]))
  const seconds = Math.floor((performance.now() - startedAt) / 1000)
  await untilReady(service)
  await untilSynced(database.pool)
  expect(await textsOf(conversation)).toEqual(
    expect.arrayContaining(Array.from({ length: 10 }, (_, n) => `number ${n}`)),
  )
  // One for what came before the read, and one for what came during it; a busy machine may need another, and one for each
  // second that it takes over the calls.
  expect(kommo.stats.historyRequestsOf(conversation.id) - before).toBeLessThanOrEqual(4 + seconds)
})

test('a wrong token opens nothing, and without configuration there is no door', async () => {
  const conversation = await knownConversation('closed')
  const before = kommo.stats.historyRequestsOf(conversation.id)
  await using closed = await startService({ ...env, ROLE: 'receiver' })
  expect((await hint(service, conversation, `${TOKEN}x`)).status).toBe(404)
  expect((await hint(closed, conversation)).status).toBe(404)
  const row = await database.prisma.conversation.findUniqueOrThrow({ where: { id: conversation.id } })
  expect(row.requested).toBe(row.processed)
  expect(kommo.stats.historyRequestsOf(conversation.id)).toBe(before)
})
