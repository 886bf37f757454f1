import type { Reaction } from '../domain/reaction.ts'
import { Prisma } from './generated/client.ts'

export interface ToldReaction extends Reaction {
  /** `kommo.webhook_events.id`: the order of arrival, which decides between two of the same second. */
  webhookId: bigint
}

/**
 * Keeps the newest word on each participant's reaction to each message, however often and in whatever order they come.
 * One that was taken back stays as a row without an emoji: an older `react` that comes late finds it and loses.
 * Rows are sorted by key, so that two writers never deadlock.
 */
export function reactionStates(told: readonly ToldReaction[]): readonly Prisma.Sql[] {
  if (told.length === 0) return []
  return [
    Prisma.sql`
    INSERT INTO kommo.reaction_states AS r (message_id, participant_id, conversation_id, scope_id, emoji, at, webhook_id)
    SELECT DISTINCT ON (message_id, participant_id) * FROM unnest(
      ${told.map((t) => t.messageId)}::text[], ${told.map((t) => t.participantId)}::text[],
      ${told.map((t) => t.conversationId)}::text[], ${told.map((t) => t.scopeId)}::text[],
      ${told.map((t) => t.emoji)}::text[], ${told.map((t) => t.at)}::timestamptz[],
      ${told.map((t) => t.webhookId)}::bigint[]
    ) AS t (message_id, participant_id, conversation_id, scope_id, emoji, at, webhook_id)
    WHERE EXISTS (SELECT FROM held)
    ORDER BY message_id, participant_id, at DESC, webhook_id DESC
    ON CONFLICT (message_id, participant_id) DO UPDATE SET
      conversation_id = excluded.conversation_id, scope_id = excluded.scope_id, emoji = excluded.emoji,
      at = excluded.at, webhook_id = excluded.webhook_id, updated_at = now()
    WHERE (excluded.at, excluded.webhook_id) > (r.at, r.webhook_id)`,
  ]
}
