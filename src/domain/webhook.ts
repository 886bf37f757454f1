/** What a webhook is about, decided from its shape alone. */
export const WEBHOOK_KINDS = ['message', 'typing', 'reaction', 'message_v1', 'unknown', 'invalid'] as const
export type WebhookKind = (typeof WEBHOOK_KINDS)[number]

/** A webhook with a good signature, as the inbox keeps it. */
export interface InboxWebhook {
  /** A UUID given on arrival: however often it is recorded, it is stored once. */
  receiptId: string
  /** When it arrived, where it has waited on disk since; `null` is now, by the database's clock. */
  receivedAt: Date | null
  /** `null` when not even the account is usable. */
  scopeId: string | null
  kind: WebhookKind
  conversationId: string | null
  conversationClientId: string | null
  messageId: string | null
  sentAt: Date | null
  /** The bytes as they came. */
  body: Uint8Array
  /** Why nothing can be synced from it; `null` when something can, or when nothing need be. */
  error: string | null
}

/**
 * Whether the webhook is a call to read its conversation again. Typing is not: the message that follows is, and
 * history requests are the cost that counts.
 */
export function callsForSync({
  scopeId,
  kind,
  conversationId,
}: Pick<InboxWebhook, 'scopeId' | 'kind' | 'conversationId'>): boolean {
  return scopeId !== null && conversationId !== null && kind !== 'typing'
}

/** Whether the webhook itself carries something to store: a message or a reaction. */
export function carriesContent({ scopeId, kind, conversationId, messageId }: InboxWebhook): boolean {
  const isContent = kind === 'message' || kind === 'reaction'
  return isContent && scopeId !== null && conversationId !== null && messageId !== null
}
