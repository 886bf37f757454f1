import type { MappedRecord } from '../domain/message.ts'
import type { Queryable } from './connection/queryable.ts'
import { type ToldReaction, reactionStates } from './reactions.ts'
import { type StoredRecords, storeTogether } from './records.ts'
import { type WebhookOutcome, heldWebhookEvents, settlement } from './webhook-events.ts'

export interface AppliedWebhooks {
  messages: readonly MappedRecord[]
  reactions: readonly ToldReaction[]
  /** One for each webhook. */
  outcomes: readonly WebhookOutcome[]
}

/**
 * Stores what webhooks bring and marks them as handled, in one statement. What another worker stores at the same moment may
 * be stored twice, which changes nothing.
 * @returns `null` where others have handled, or are handling, all of them
 */
export async function storeWebhooks(
  db: Queryable,
  { messages, reactions, outcomes }: AppliedWebhooks,
): Promise<StoredRecords | null> {
  return storeTogether(db, messages, null, {
    held: heldWebhookEvents(outcomes.map(({ id }) => id)),
    writes: [settlement(outcomes), ...reactionStates(reactions)],
  })
}
