import { expect, test } from 'vitest'
import { differingFields } from '../../../src/sync/differing-fields.ts'
import { at, mediaSeen, messageSeen } from '../../helpers/sighting.ts'

const whole = messageSeen({
  clientId: 'client',
  senderId: 'sender',
  receiverId: 'receiver',
  direction: 'outgoing',
  type: 'picture',
  text: 'text',
  sentAt: at(0),
  media: mediaSeen({ fileName: 'a.png', fileSize: 3 }),
  extra: { location: { lat: 1, lon: 2 } },
})

test('a message does not differ from itself', () => {
  expect(differingFields(whole, structuredClone(whole))).toEqual([])
})

test('what the history leaves out is no difference', () => {
  expect(differingFields(messageSeen(), whole)).toEqual([])
  expect(differingFields(messageSeen({ media: mediaSeen() }), whole)).toEqual([])
})

test.each([
  [{ text: 'other' }, ['text']],
  [{ text: null }, ['text']],
  [{ sentAt: at(1) }, ['sent_at']],
  [{ senderId: 'x', receiverId: 'y' }, ['sender_id', 'receiver_id']],
  [{ conversationId: 'x' }, ['conversation_id']],
  [{ direction: 'incoming' as const }, ['direction']],
  [{ media: null }, ['media']],
  [{ media: mediaSeen({ fileName: 'b.png', fileSize: 3 }) }, ['media.file_name']],
  [{ extra: {} }, ['extra.location']],
  [{ extra: { location: { lat: 1, lon: 3 } } }, ['extra.location']],
  [{ extra: { location: { lon: 2, lat: 1 }, more: 1 } }, []],
])('stored with %j differs in %j', (change, fields) => {
  expect(differingFields(whole, { ...whole, ...change })).toEqual(fields)
})

test('a number that jsonb writes otherwise is no difference', () => {
  expect(differingFields(messageSeen({ extra: { n: -0 } }), messageSeen({ extra: { n: 0 } }))).toEqual([])
})
