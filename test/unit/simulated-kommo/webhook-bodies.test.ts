import { expect, test } from 'vitest'
import { emptyContent, noQuirks, type SimulatedMessage } from '../../../src/simulated-kommo/message.ts'
import {
  messageBody,
  messageV1Body,
  reactionBody,
  stringifyLikePhp,
  typingBody,
} from '../../../src/simulated-kommo/webhook-bodies.ts'

const manager = { id: 'manager-1', clientId: null, name: '', phone: '', email: '', avatar: '' }
const client = {
  id: 'person-1',
  clientId: 'client-1',
  name: 'Client One',
  phone: '',
  email: '',
  avatar: 'https://example.com/a.png',
}
const message: SimulatedMessage = {
  ...emptyContent,
  id: 'message-1',
  clientId: null,
  sentAtMs: 1_700_000_000_123,
  sender: manager,
  receiver: client,
  text: 'Hello',
  quirks: noQuirks,
  webhookOnly: () => ({ message: {}, source: null }),
}
const context = {
  accountId: 'account-1',
  conversation: { id: 'chat-1', clientId: 'conv-1' },
  now: new Date(1_700_000_001_500),
}
const plainFields = { markup: null, tag: '', media: '', thumbnail: '', file_name: '', file_size: 0 }

test('a text looks like a real webhook', () => {
  expect(messageBody(context, message)).toEqual({
    account_id: 'account-1',
    time: 1_700_000_001,
    message: {
      receiver: { id: 'person-1', name: 'Client One', client_id: 'client-1' },
      sender: { id: 'manager-1', name: '' },
      conversation: { id: 'chat-1', client_id: 'conv-1' },
      timestamp: 1_700_000_000,
      msec_timestamp: 1_700_000_000_123,
      message: { id: 'message-1', type: 'text', text: 'Hello', ...plainFields },
    },
  })
})

test('"write first" names the number and no integration-side ids', () => {
  const writeFirst = { ...context, conversation: { id: 'chat-1', clientId: null } }
  const stranger = { ...client, clientId: null, phone: '15550000002' }
  expect(messageBody(writeFirst, { ...message, receiver: stranger })).toMatchObject({
    message: {
      receiver: { id: 'person-1', phone: '15550000002', email: '' },
      conversation: { id: 'chat-1' },
    },
  })
  expect(JSON.stringify(messageBody(writeFirst, { ...message, receiver: stranger }))).not.toContain(
    'client_id',
  )
})

test('fields that only the webhook tells stand inside the message, the source beside it', () => {
  const post = { post: { id: 'post-1' }, markup: { mode: 'inline' } }
  const webhookOnly = () => ({ message: post, source: { external_id: '15550009999' } })
  expect(messageBody(context, { ...message, webhookOnly })).toMatchObject({
    message: { source: { external_id: '15550009999' }, message: post },
  })
})

test('typing has its user in either documented place', () => {
  const typing = { conversation: { id: 'chat-1', client_id: 'conv-1' }, expired_at: 1_700_000_006 }
  expect(typingBody(context, manager, { postId: 'post-1' })).toMatchObject({
    action: { typing: { ...typing, user: { id: 'manager-1' }, post_id: 'post-1' } },
  })
  expect(typingBody(context, manager, { userAt: 'action' })).toMatchObject({
    action: { user: { id: 'manager-1' }, typing },
  })
})

test('a reaction comes in the newer and the older shape, and can be taken back', () => {
  expect(reactionBody(context, message, manager)).toMatchObject({
    action: { reaction: { message: { id: 'message-1' }, type: 'react', emoji: '👍' } },
  })
  const older = reactionBody(context, message, manager, { shape: 'msgid', emoji: null })
  expect(older).toMatchObject({ action: { reaction: { msgid: 'message-1', type: 'unreact' } } })
  expect(JSON.stringify(older)).not.toContain('emoji')
})

test('version 1 is flat, with integration-side ids only', () => {
  const { markup: _markup, tag: _tag, ...fields } = plainFields
  expect(messageV1Body(context, message)).toEqual({
    receiver: 'client-1',
    conversation_id: 'conv-1',
    msec_timestamp: 1_700_000_000_123,
    type: 'text',
    text: 'Hello',
    ...fields,
  })
})

test('PHP escapes the slash and everything beyond ASCII (bytes of the published vector W3)', () => {
  const body = { message: { message: { text: 'Olá 👋', media: 'https://example.com/a.jpg' } } }
  expect(stringifyLikePhp(body)).toBe(
    String.raw`{"message":{"message":{"text":"Ol\u00e1 \ud83d\udc4b","media":"https:\/\/example.com\/a.jpg"}}}`,
  )
  expect(JSON.parse(stringifyLikePhp(body))).toEqual(body)
})
