import type { ClaimedConversation, Walk } from '../domain/conversation.ts'
import type { MappedRecord } from '../domain/message.ts'
import { LeaseLostError, checkpoint, completion, heldConversation } from './conversations.ts'
import { type Stretch, missingMarks } from './missing-messages.ts'
import type { Queryable } from './connection/queryable.ts'
import { type StoredRecords, storeTogether, unmappedRecords } from './records.ts'

export interface WalkPage {
  records: readonly MappedRecord[]
  /** The newest time among the records. */
  lastMessageAt: Date | null
  /** `null` for a page that does not join those before it: it is true, but proves nothing of what is older than it. */
  stretch: Stretch | null
  /** Where the walk goes on, or how it ended. */
  next: { offset: number; tail: readonly string[] } | { reachedEnd: boolean }
}

/**
 * Stores a page and moves the walk behind it, in one statement: a crash leaves both or neither, and no lock waits for what
 * this process does in between.
 * @throws LeaseLostError, and then nothing is stored
 */
export async function storeWalkPage(
  db: Queryable,
  claim: ClaimedConversation,
  walk: Walk,
  { records, lastMessageAt, stretch, next }: WalkPage,
): Promise<StoredRecords> {
  const stored = await storeTogether(db, records, stretch === null ? null : walk.number, {
    held: heldConversation(claim),
    writes: [
      'reachedEnd' in next
        ? completion(walk, lastMessageAt, next.reachedEnd)
        : checkpoint({ ...walk, ...next }, lastMessageAt),
      ...(stretch === null ? [] : missingMarks(claim.id, stretch)),
      ...unmappedRecords(claim.id, records),
    ],
  })
  if (stored === null) throw new LeaseLostError(claim.id)
  return stored
}
