import type { Queryable } from './queryable.ts'

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
export async function markMissing(
  db: Queryable,
  conversationId: string,
  { observedAt, ids, newestAt, oldestAt, isHead, isEnd }: Stretch,
): Promise<void> {
  const isBounded = (newestAt !== null || isHead) && (oldestAt !== null || isEnd)
  if (!isBounded) return
  await db.$executeRaw`
    UPDATE kommo.messages SET missing_since = ${observedAt}::timestamptz, updated_at = now()
    WHERE conversation_id = ${conversationId} AND missing_since IS NULL AND observed_at < ${observedAt}::timestamptz
      AND sent_at > COALESCE(${isEnd ? null : oldestAt}::timestamptz, '-infinity')
      AND sent_at < COALESCE(${isHead ? null : newestAt}::timestamptz, 'infinity')
      AND (first_walk IS NOT NULL OR sent_at < ${newestAt}::timestamptz)
      AND id <> ALL(${ids}::text[])`
}
