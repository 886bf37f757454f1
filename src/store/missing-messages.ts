import { Prisma } from './generated/client.ts'

/** What a history page shows of a conversation, whole. */
export interface Stretch {
  /** The moment of the request. */
  observedAt: Date
  ids: readonly string[]
  /** Of the page's first and last message; `null` when the page is empty or they have no time. */
  newestAt: Date | null
  oldestAt: Date | null
  /** Nothing in Kommo is newer than the page, or older. */
  isHead: boolean
  isEnd: boolean
}

/**
 * Marks the messages that are stored in this stretch and that Kommo no longer has there; never deletes. Messages with
 * the times of the page's ends are left alone: they may be on the neighbouring page.
 *
 * At the head, what only a webhook told of is left alone too: the history may be a moment behind.
 */
export function missingMarks(
  conversationId: string,
  { observedAt, ids, newestAt, oldestAt, isHead, isEnd }: Stretch,
): readonly Prisma.Sql[] {
  const isBounded = (newestAt !== null || isHead) && (oldestAt !== null || isEnd)
  if (!isBounded) return []
  return [
    Prisma.sql`
      UPDATE kommo.messages AS m SET missing_since = ${observedAt}::timestamptz, updated_at = now()
      FROM held
      WHERE m.conversation_id = ${conversationId} AND m.missing_since IS NULL
        AND m.observed_at < ${observedAt}::timestamptz
        AND m.sent_at > COALESCE(${isEnd ? null : oldestAt}::timestamptz, '-infinity')
        AND m.sent_at < COALESCE(${isHead ? null : newestAt}::timestamptz, 'infinity')
        AND (m.first_walk IS NOT NULL OR m.sent_at < ${newestAt}::timestamptz)
        AND m.id <> ALL(${ids}::text[])`,
  ]
}
