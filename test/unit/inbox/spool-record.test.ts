import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { InboxWebhook, WebhookKind } from '../../../src/domain/webhook.ts'
import { encodeRecord, readRecords } from '../../../src/inbox/spool-record.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'
import { at } from '../../helpers/sighting.ts'

const ARRIVAL = at(0)

const kinds: WebhookKind[] = ['message', 'typing', 'reaction', 'message_v1', 'unknown', 'invalid']
const text = fc.option(fc.string({ unit: 'binary', maxLength: 50 }))
const webhook: fc.Arbitrary<InboxWebhook> = fc.record({
  receiptId: fc.uuid(),
  receivedAt: fc.option(fc.date({ noInvalidDate: true })),
  scopeId: text,
  kind: fc.constantFrom(...kinds),
  conversationId: text,
  conversationClientId: text,
  messageId: text,
  sentAt: fc.option(fc.date({ noInvalidDate: true })),
  body: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  error: text,
})

function encodeAll(webhooks: readonly InboxWebhook[]): Buffer {
  return Buffer.concat(webhooks.map((each) => encodeRecord(each, ARRIVAL)))
}

const three = [1, 2, 3].map((n) =>
  inboxWebhook({ messageId: `m${n}`, body: Buffer.from(`{"n":${n}}`), receivedAt: at(n) }),
)
const ids = (webhooks: readonly InboxWebhook[]) => webhooks.map(({ messageId }) => messageId)

test('what is written is read, byte for byte', () => {
  fc.assert(
    fc.property(fc.array(webhook, { maxLength: 8 }), (webhooks) => {
      expect(readRecords(encodeAll(webhooks))).toEqual({
        webhooks: webhooks.map((each) => ({ ...each, receivedAt: each.receivedAt ?? ARRIVAL })),
        corrupt: 0,
        tornBytes: 0,
      })
    }),
  )
})

test('a file that ends at any byte of its last record gives all the others and no alarm', () => {
  const whole = encodeAll(three)
  const lastStart = encodeAll(three.slice(0, 2)).length
  for (let end = lastStart; end < whole.length; end += 1) {
    const { webhooks, corrupt, tornBytes } = readRecords(whole.subarray(0, end))
    expect([ids(webhooks), corrupt, tornBytes]).toEqual([['m1', 'm2'], 0, end - lastStart])
  }
})

test('a change of any byte costs its own record at most, and is counted', () => {
  const whole = encodeAll(three)
  const second = encodeRecord(three[0] ?? inboxWebhook(), ARRIVAL).length
  for (let position = second; position < whole.length; position += 1) {
    const damaged = Buffer.from(whole)
    damaged[position] = (damaged[position] ?? 0) ^ 0x10
    const { webhooks, corrupt, tornBytes } = readRecords(damaged)
    expect(webhooks.length).toBe(2)
    expect(ids(webhooks)).toContain('m1')
    // In the length of the last record it cannot be told from a record that was not finished.
    expect(corrupt + Math.min(tornBytes, 1)).toBe(1)
  }
})

test('garbage of any kind is read without an error', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.array(webhook, { maxLength: 2 }),
      (garbage, webhooks) => {
        const { webhooks: read } = readRecords(Buffer.concat([garbage, encodeAll(webhooks)]))
        expect(read).toHaveLength(webhooks.length)
      },
    ),
  )
})

test('zeros after the last record, as a crash can leave them, are counted as damage', () => {
  const { webhooks, corrupt } = readRecords(Buffer.concat([encodeAll(three), Buffer.alloc(4096)]))
  expect([ids(webhooks), corrupt]).toEqual([['m1', 'm2', 'm3'], 1])
})
