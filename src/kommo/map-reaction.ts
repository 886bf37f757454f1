import type { Reaction } from '../domain/reaction.ts'
import { makeStorable } from './storable.ts'
import type { WebhookContext } from './map-message.ts'
import { type Reader, fieldOf, readId, readSeconds, readText } from './wire.ts'

export type MappedReaction = { kind: 'mapped'; reaction: Reaction } | { kind: 'unmapped'; reason: string }

/**
 * Maps the parsed body of a reaction webhook, of both shapes: since September 2023 the message is an object, before it
 * was named by `msgid` alone (documented).
 */
export function mapWebhookReaction(payload: unknown, context: WebhookContext): MappedReaction {
  const { scopeId, conversationId, receivedAt } = context
  const body = makeStorable(payload).value
  const action = fieldOf(body, 'action')
  const reaction = fieldOf(action, 'reaction')

  const messageId = read(fieldOf(reaction, 'message'), 'id', readId) ?? read(reaction, 'msgid', readId)
  if (messageId === null) return { kind: 'unmapped', reason: 'the reaction names no message' }
  // Of typing the documentation has the user at both places (documented); here at least the inner one.
  const participantId =
    read(fieldOf(reaction, 'user'), 'id', readId) ?? read(fieldOf(action, 'user'), 'id', readId)
  if (participantId === null) return { kind: 'unmapped', reason: 'the reaction does not say whose it is' }

  const type = fieldOf(reaction, 'type')
  if (type !== 'react' && type !== 'unreact')
    return { kind: 'unmapped', reason: 'the reaction is of no known type' }
  const emoji = type === 'react' ? read(reaction, 'emoji', readText) : null
  if (type === 'react' && emoji === null) return { kind: 'unmapped', reason: 'the reaction has no emoji' }

  const time = read(body, 'time', readSeconds)
  // A clock of Kommo's that is ahead must not make this win over what is told later.
  const at = time === null || time > receivedAt ? receivedAt : time
  return { kind: 'mapped', reaction: { messageId, participantId, conversationId, scopeId, emoji, at } }
}

function read<T>(holder: unknown, name: string, reader: Reader<T>): T | null {
  return reader(fieldOf(holder, name) ?? null)
}
