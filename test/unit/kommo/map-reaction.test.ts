import { expect, test } from 'vitest'
import { parseWebhook } from '../../../src/kommo/classify-webhook.ts'
import { mapWebhookReaction } from '../../../src/kommo/map-reaction.ts'
import { fixtureBytes } from '../../helpers/fixture.ts'

const context = {
  scopeId: 'channel_account',
  conversationId: 'conversation-1',
  receivedAt: new Date(1_700_000_045_000),
}

function map(reaction: unknown, time: unknown = 1_700_000_040) {
  return mapWebhookReaction({ time, action: { reaction } }, context)
}

const GOOD = { msgid: 'm', user: { id: 'u' }, type: 'react', emoji: '👍' }

test.each(['webhook-reaction', 'webhook-reaction-msgid'])(
  '%s is a reaction of a person to a message',
  (name) => {
    expect(mapWebhookReaction(parseWebhook(fixtureBytes(name)), context)).toEqual({
      kind: 'mapped',
      reaction: {
        messageId: '0b1c2d3e-5555-4a55-8a55-000000000005',
        participantId: '0b1c2d3e-3333-4a33-8a33-000000000003',
        conversationId: 'conversation-1',
        scopeId: 'channel_account',
        emoji: '👍',
        at: new Date(1_700_000_040_000),
      },
    })
  },
)

test('unreact takes back, whatever emoji it names', () => {
  expect(map({ ...GOOD, type: 'unreact' })).toMatchObject({ reaction: { emoji: null } })
})

test('the message object counts where msgid is there too', () => {
  expect(map({ ...GOOD, message: { id: 'other' } })).toMatchObject({ reaction: { messageId: 'other' } })
})

test('the user may stand beside the reaction, as with typing', () => {
  const { user, ...rest } = GOOD
  expect(mapWebhookReaction({ time: 1, action: { user, reaction: rest } }, context)).toMatchObject({
    reaction: { participantId: 'u' },
  })
})

test.each([
  ['absent', undefined],
  ['ahead of its arrival', 1_800_000_000],
])('a time that is %s is that of the arrival', (_what, time) => {
  expect(mapWebhookReaction({ time, action: { reaction: GOOD } }, context)).toMatchObject({
    reaction: { at: context.receivedAt },
  })
})

test.each([
  [{ ...GOOD, msgid: '' }, 'the reaction names no message'],
  [{ ...GOOD, user: {} }, 'the reaction does not say whose it is'],
  [{ ...GOOD, type: 'wave' }, 'the reaction is of no known type'],
  [{ ...GOOD, emoji: '' }, 'the reaction has no emoji'],
  ['nonsense', 'the reaction names no message'],
])('%j is none: %s', (reaction, reason) => {
  expect(map(reaction)).toEqual({ kind: 'unmapped', reason })
})
