import { randomUUID } from 'node:crypto'
import type { InboxWebhook } from '../../src/domain/webhook.ts'
import { SCOPE, at } from './sighting.ts'

/** A webhook as the receiver hands it to the inbox; what is not said is usual. */
export function inboxWebhook(known: Partial<InboxWebhook> = {}): InboxWebhook {
  return {
    receiptId: randomUUID(),
    receivedAt: null,
    scopeId: SCOPE,
    kind: 'message',
    conversationId: 'conversation-1',
    conversationClientId: null,
    messageId: 'message-1',
    sentAt: at(0),
    body: Buffer.from('{}'),
    error: null,
    ...known,
  }
}
