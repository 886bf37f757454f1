import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { InboxWebhook, WebhookKind } from '../../../src/domain/webhook.ts'
import { storeWebhooks } from '../../../src/store/applied-webhooks.ts'
import type { Queryable } from '../../../src/store/connection/queryable.ts'
import {
  deleteOldWebhookEvents,
  readPendingWebhookEvents,
  recordWebhooks,
} from '../../../src/store/webhook-events.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'
import { SCOPE, at } from '../../helpers/sighting.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
beforeEach(() =>
  database.pool.query('TRUNCATE kommo.webhook_events, kommo.conversations, kommo.rate_limits CASCADE'),
)
afterAll(() => database.drop())

const record = (...webhooks: Partial<InboxWebhook>[]) =>
  recordWebhooks(
    database.prisma,
    webhooks.map((known) => inboxWebhook(known)),
  )
const events = () => database.prisma.webhookEvent.findMany({ orderBy: { id: 'asc' } })

describe('recording', () => {
  test('keeps the bytes and what is known of them, in order of arrival', async () => {
    const body = Buffer.from([0, 255, 34, 92])
    await record(
      { body },
      { kind: 'typing', messageId: null },
      {
        kind: 'invalid',
        scopeId: null,
        conversationId: null,
        messageId: null,
        error: 'The body is not JSON.',
      },
    )
    const stored = await events()
    expect(stored).toMatchObject([
      { kind: 'message', scopeId: SCOPE, syncRequest: 1n, processedAt: null },
      { kind: 'typing', conversationId: 'conversation-1', syncRequest: null, processedAt: expect.any(Date) },
      { kind: 'invalid', scopeId: null, syncRequest: null, error: 'The body is not JSON.' },
    ])
    expect(Buffer.from(stored[0]?.body ?? []).equals(body)).toBe(true)
  })

  test('a message or a reaction waits to be applied, anything else is done', async () => {
    await record(
      {},
      { kind: 'reaction' },
      { messageId: null },
      { conversationId: null },
      { kind: 'message_v1' },
    )
    expect((await events()).map(({ processedAt }) => processedAt === null)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ])
  })

  test('typing calls for nothing', async () => {
    await record({ kind: 'typing', messageId: null })
    expect(await database.prisma.conversation.count()).toBe(0)
  })

  test('tells the conversation its client id and its newest message, and never forgets them', async () => {
    await record({ sentAt: at(5), conversationClientId: 'client-side' }, { sentAt: at(1) })
    await record({ sentAt: null }, { sentAt: at(2) })
    expect(await database.prisma.conversation.findMany()).toMatchObject([
      { clientId: 'client-side', lastMessageAt: at(5), requested: 4n },
    ])
  })

  test('numbers the calls of a batch in their order', async () => {
    await record({ messageId: 'a' }, { conversationId: 'other' }, { kind: 'typing' }, { messageId: 'b' })
    await record({ messageId: 'c' })
    const mine = (await events()).filter(({ conversationId }) => conversationId === 'conversation-1')
    expect(mine.map(({ messageId, syncRequest }) => [messageId, syncRequest])).toEqual([
      ['a', 1n],
      ['message-1', null],
      ['b', 2n],
      ['c', 3n],
    ])
  })

  test('numbers the calls of each conversation without a gap, through any concurrent batches', async () => {
    const kinds: WebhookKind[] = ['message', 'typing', 'reaction', 'unknown']
    const webhook = fc.record({
      conversationId: fc.option(fc.constantFrom('c1', 'c2', 'c3', 'c4')),
      kind: fc.constantFrom(...kinds),
    })
    const batches = fc.array(fc.array(webhook, { maxLength: 12 }), { minLength: 1, maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(batches, async (together) => {
        await database.pool.query('TRUNCATE kommo.webhook_events, kommo.conversations CASCADE')
        await Promise.all(together.map((batch) => record(...batch)))
        const { rows } = await database.pool.query<{ sound: boolean }>(
          `SELECT c.requested = count(e.sync_request) AND max(e.sync_request) = c.requested
             AND count(DISTINCT e.sync_request) = c.requested AND min(e.sync_request) = 1 AS sound
           FROM kommo.conversations c LEFT JOIN kommo.webhook_events e ON e.conversation_id = c.id
           GROUP BY c.id, c.requested`,
        )
        expect(rows.every(({ sound }) => sound)).toBe(true)
        const calling = together
          .flat()
          .filter(({ conversationId, kind }) => conversationId !== null && kind !== 'typing')
        expect(rows).toHaveLength(new Set(calling.map(({ conversationId }) => conversationId)).size)
        expect(await database.prisma.webhookEvent.count()).toBe(together.flat().length)
      }),
      { numRuns: 30 },
    )
  })
})

describe('pending webhooks', () => {
  const settle = (db: Queryable, pending: readonly { id: bigint }[], errors: (string | null)[] = []) =>
    storeWebhooks(db, {
      messages: [],
      reactions: [],
      outcomes: pending.map(({ id }, place) => ({ id, error: errors[place] ?? null })),
    })

  test('are handled by one of two who read them, and wait again when that one fails', async () => {
    await record({ messageId: 'a' }, { messageId: 'b' }, { messageId: 'c' })
    const pending = await readPendingWebhookEvents(database.prisma, 2)
    expect(pending).toHaveLength(2)
    const failing = database.prisma.$transaction(async (tx) => {
      expect(await settle(tx, pending)).not.toBeNull()
      expect(await settle(database.prisma, pending)).toBeNull()
      throw new Error('on purpose')
    })
    await expect(failing).rejects.toThrow('on purpose')
    expect(await readPendingWebhookEvents(database.prisma, 5)).toHaveLength(3)
    expect(await settle(database.prisma, pending)).not.toBeNull()
    expect(await settle(database.prisma, pending)).toBeNull()
    expect(await readPendingWebhookEvents(database.prisma, 5)).toHaveLength(1)
  })

  test('settled are done, with the reason where there is one', async () => {
    await record({ messageId: 'a' }, { messageId: 'b' })
    await settle(database.prisma, await readPendingWebhookEvents(database.prisma, 5), [null, 'no id'])
    expect(await readPendingWebhookEvents(database.prisma, 5)).toEqual([])
    expect((await events()).map(({ error }) => error)).toEqual([null, 'no id'])
  })
})

test('what is past its retention is deleted, but never what is recent, waits or failed', async () => {
  await record(
    { kind: 'unknown', messageId: 'old' },
    { kind: 'unknown', messageId: 'old too' },
    { kind: 'unknown', messageId: 'recent' },
    { messageId: 'waiting' },
    { kind: 'message_v1', messageId: 'failed', error: 'cannot be stored' },
  )
  await database.pool.query(
    `UPDATE kommo.webhook_events SET received_at = now() - interval '31 days',
       processed_at = CASE WHEN processed_at IS NOT NULL THEN now() - interval '31 days' END`,
  )
  await database.pool.query(
    "UPDATE kommo.webhook_events SET processed_at = now() - interval '29 days' WHERE message_id = 'recent'",
  )
  expect(await deleteOldWebhookEvents(database.prisma, 30, 1)).toBe(1)
  expect(await deleteOldWebhookEvents(database.prisma, 30, 100)).toBe(1)
  expect((await events()).map(({ messageId }) => messageId)).toEqual(['recent', 'waiting', 'failed'])
})
