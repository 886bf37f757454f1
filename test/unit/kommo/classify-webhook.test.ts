import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { classifyWebhook, parseWebhook } from '../../../src/kommo/classify-webhook.ts'
import { fixture, fixtureBytes } from '../../helpers/fixture.ts'

const ACCOUNT = '0b1c2d3e-1111-4a11-8a11-000000000001'
const CONVERSATION = '0b1c2d3e-4444-4a44-8a44-000000000004'
const classifyText = (text: string) => classifyWebhook(Buffer.from(text))
const classifyValue = (value: unknown) => classifyText(JSON.stringify(value))

describe('the kinds of webhooks', () => {
  test.each([
    ['webhook-text', '0b1c2d3e-5555-4a55-8a55-000000000005', 1_700_000_000_123],
    ['webhook-picture', '0b1c2d3e-5555-4a55-8a55-000000000006', 1_700_000_010_980],
    ['webhook-voice', '0b1c2d3e-5555-4a55-8a55-000000000007', 1_700_000_000_123],
    ['webhook-comment-reply', '0b1c2d3e-5555-4a55-8a55-000000000009', 1_752_066_224_654],
  ])('%s is a message', (name, messageId, sentAtMs) => {
    expect(classifyWebhook(fixtureBytes(name))).toEqual({
      kind: 'message',
      accountId: ACCOUNT,
      conversationId: CONVERSATION,
      conversationClientId: 'conv-1',
      messageId,
      sentAt: new Date(sentAtMs),
      error: null,
    })
  })

  test('a message written first by a manager has no client id of the conversation', () => {
    expect(classifyWebhook(fixtureBytes('webhook-write-first'))).toMatchObject({
      kind: 'message',
      conversationId: '0b1c2d3e-4444-4a44-8a44-000000000014',
      conversationClientId: null,
      error: null,
    })
  })

  test.each(['webhook-typing', 'webhook-typing-user-outside'])('%s is typing', (name) => {
    expect(classifyWebhook(fixtureBytes(name))).toEqual({
      kind: 'typing',
      accountId: ACCOUNT,
      conversationId: CONVERSATION,
      conversationClientId: 'conv-1',
      messageId: null,
      sentAt: null,
      error: null,
    })
  })

  test.each([
    ['webhook-reaction', new Date(1_700_000_000_123)],
    ['webhook-reaction-msgid', null],
  ])('%s is a reaction and names the message', (name, sentAt) => {
    expect(classifyWebhook(fixtureBytes(name))).toEqual({
      kind: 'reaction',
      accountId: ACCOUNT,
      conversationId: CONVERSATION,
      conversationClientId: 'conv-1',
      messageId: '0b1c2d3e-5555-4a55-8a55-000000000005',
      sentAt,
      error: null,
    })
  })

  test('a message of version v1 is told apart, and the error says what to do', () => {
    const webhook = classifyWebhook(fixtureBytes('webhook-message-v1'))
    expect(webhook).toMatchObject({ kind: 'message_v1', conversationId: null, messageId: null })
    expect(webhook.error).toMatch(/hook_api_version.*v2/)
  })

  test('an unknown action is read for its conversation', () => {
    expect(
      classifyValue({ account_id: 'a', action: { read: { conversation: { id: 'c', client_id: 'cc' } } } }),
    ).toEqual({
      kind: 'unknown',
      accountId: 'a',
      conversationId: 'c',
      conversationClientId: 'cc',
      messageId: null,
      sentAt: null,
      error: null,
    })
  })

  test.each([
    [{}],
    [{ account_id: 7, action: 'x' }],
    [{ message: 'x' }],
    [{ message: { conversation: {} } }],
  ])('%j is unknown and names no conversation', (value) => {
    expect(classifyValue(value)).toMatchObject({
      kind: 'unknown',
      accountId: null,
      error: expect.stringMatching(/no conversation/),
    })
  })
})

describe('what cannot be used', () => {
  test.each([
    ['no bytes', '', /not JSON/],
    ['text', 'hello', /not JSON/],
    ['a cut off object', '{"message":', /not JSON/],
    ['a list', '[{"message":{}}]', /not an object/],
    ['null', 'null', /not an object/],
    ["the account's general webhook", 'message%5Badd%5D%5B0%5D%5Bid%5D=1', /general webhook/],
  ])('%s is invalid', (_name, text, error) => {
    expect(classifyText(text)).toMatchObject({ kind: 'invalid', error: expect.stringMatching(error) })
    expect(parseWebhook(Buffer.from(text))).toBeNull()
  })

  test('bytes that are not UTF-8 are invalid', () => {
    const body = Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from('"}')])
    expect(classifyWebhook(body)).toMatchObject({ kind: 'invalid', error: expect.stringMatching(/UTF-8/) })
  })

  test('a message without conversation has an error', () => {
    expect(classifyValue({ message: { message: { id: 'm' } } })).toMatchObject({
      kind: 'message',
      messageId: 'm',
      conversationId: null,
      error: expect.stringMatching(/no conversation/),
    })
  })

  test.each([
    ['no id', undefined],
    ['an empty id', ''],
    ['a number as id', 7],
    ['an id that is too long', 'a'.repeat(1025)],
    ['NUL in the id', 'a\0'],
  ])('a message with %s has an error and still names its conversation', (_name, id) => {
    expect(classifyValue({ message: { conversation: { id: 'c' }, message: { id } } })).toMatchObject({
      kind: 'message',
      messageId: null,
      conversationId: 'c',
      error: expect.stringMatching(/no usable id/),
    })
  })

  test('inherited properties are no fields', () => {
    expect(classifyText('{"__proto__":{"message":{"message":{"id":"m"}}}}')).toMatchObject({
      kind: 'unknown',
    })
  })
})

test('the time of the webhook stands in for a message without time', () => {
  const value = { time: 1_700_000_001, message: { conversation: { id: 'c' }, message: { id: 'm' } } }
  expect(classifyValue(value).sentAt).toEqual(new Date(1_700_000_001_000))
})

test('a parsed webhook is the object that was sent', () => {
  expect(parseWebhook(fixtureBytes('webhook-picture'))).toEqual(fixture('webhook-picture'))
})

test('no bytes and no JSON make it throw', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (body) => {
      expect(classifyWebhook(body)).toHaveProperty('kind')
    }),
  )
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'binary' }), fc.jsonValue(), (message, action) => {
      for (const value of [
        message,
        { message },
        { message: { message } },
        { action },
        { action: { typing: action } },
      ]) {
        expect(classifyValue(value)).toHaveProperty('kind')
      }
    }),
  )
})

test('a megabyte of brackets is classified', () => {
  const depth = 250_000
  expect(classifyText(`{"message":${'['.repeat(depth)}${']'.repeat(depth)}}`).kind).toBe('unknown')
})
