import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { recordBatch } from '../../../src/inbox/record-batch.ts'
import { createLogger } from '../../../src/logger.ts'
import { recordWebhooks } from '../../../src/store/webhook-events.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'
import { at } from '../../helpers/sighting.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
beforeEach(() => database.pool.query('TRUNCATE kommo.webhook_events, kommo.conversations CASCADE'))
afterAll(() => database.drop())

const events = () => database.prisma.webhookEvent.findMany({ orderBy: { id: 'asc' } })
const requested = async () => (await database.prisma.conversation.findFirst())?.requested

test('a webhook that is stored already adds neither a row nor a call', async () => {
  const old = [inboxWebhook({ messageId: 'a' }), inboxWebhook({ messageId: 'b' })]
  await recordWebhooks(database.prisma, old)
  await recordWebhooks(database.prisma, old)
  await recordWebhooks(database.prisma, [...old, inboxWebhook({ messageId: 'c' })])
  expect((await events()).map(({ messageId, syncRequest }) => [messageId, syncRequest])).toEqual([
    ['a', 1n],
    ['b', 2n],
    ['c', 3n],
  ])
  expect(await requested()).toBe(3n)
})

test('a batch of nothing is a question whether the database is well', async () => {
  await recordWebhooks(database.prisma, [])
  expect(await events()).toEqual([])
})

test('the time of arrival is kept, except one that lies in the future', async () => {
  await recordWebhooks(database.prisma, [
    inboxWebhook({ receivedAt: at(0) }),
    inboxWebhook({ receivedAt: new Date(Date.now() + 3_600_000) }),
    inboxWebhook({ receivedAt: null }),
  ])
  const [past, future, direct] = await events()
  expect(past?.receivedAt).toEqual(at(0))
  expect(future?.receivedAt).toEqual(direct?.receivedAt)
})

test('recorded by two at the same moment, it is stored and counted once', async () => {
  const webhooks = [inboxWebhook({ messageId: 'a' }), inboxWebhook({ messageId: 'b' })]
  const log = createLogger('silent')
  await Promise.all(
    Array.from({ length: 5 }, () =>
      recordBatch((batch) => recordWebhooks(database.prisma, batch), webhooks, log),
    ),
  )
  expect((await events()).map(({ messageId, kind }) => [messageId, kind])).toEqual([
    ['a', 'message'],
    ['b', 'message'],
  ])
  expect(await requested()).toBe(2n)
})

test('a webhook whose values the database refuses is kept as bytes and holds up no other', async () => {
  const body = Buffer.from('{"odd":true}')
  // It never comes this far: the receiver takes no id with a zero in it.
  const odd = inboxWebhook({ conversationId: 'not\u0000storable', messageId: 'odd', body })
  const log = createLogger('silent')
  const batch = [inboxWebhook({ messageId: 'a' }), odd, inboxWebhook({ messageId: 'b' })]
  await recordBatch((webhooks) => recordWebhooks(database.prisma, webhooks), batch, log)
  const stored = await events()
  expect(stored.map(({ messageId, kind }) => [messageId, kind])).toEqual([
    ['a', 'message'],
    [null, 'invalid'],
    ['b', 'message'],
  ])
  expect(Buffer.from(stored[1]?.body ?? []).equals(body)).toBe(true)
})
