import type { ClaimedConversation, Walk } from '../domain/conversation.ts'
import type { MappedRecord } from '../domain/message.ts'
import { HISTORY_PAGE_SIZE } from '../kommo/client.ts'
import { isKnownSince } from '../store/conversations.ts'
import type { Stretch } from '../store/missing-messages.ts'
import type { Database } from '../store/connection/database.ts'
import type { Queryable } from '../store/connection/queryable.ts'
import type { StoredRecords } from '../store/records.ts'
import { storeWalkPage } from '../store/walk-page.ts'
import type { ObservedPage } from './history-reader.ts'
import { recordKey } from './record-key.ts'
import { type WalkStep, walkStep } from './walk-step.ts'

export interface StoredPage {
  stored: StoredRecords
  step: WalkStep
  /** The page held a record that the one before did not. */
  hasNews: boolean
}

/**
 * Decides where the walk goes after the page, and stores both together.
 * @throws LeaseLostError, and then nothing is stored
 */
export async function storePage(
  { prisma }: Database,
  claim: ClaimedConversation,
  walk: Walk,
  { records, observedAt }: ObservedPage,
  stepsBack: number,
): Promise<StoredPage> {
  const keys = records.map(recordKey)
  const page = {
    keys,
    full: records.length >= HISTORY_PAGE_SIZE,
    reachesKnown: await reachesKnown(prisma, walk, records),
  }
  const step = walkStep(walk, page, HISTORY_PAGE_SIZE, stepsBack)
  const stored = await storeWalkPage(prisma, claim, walk, {
    records,
    lastMessageAt: newestSentAt(records),
    stretch: step.kind === 'stepBack' ? null : stretchOf(walk, step, records, observedAt),
    next:
      step.kind === 'finished' ? { reachedEnd: step.reachedEnd } : { offset: step.offset, tail: step.tail },
  })
  return { stored, step, hasNews: keys.some((key) => !walk.tail.includes(key)) }
}

async function reachesKnown(db: Queryable, walk: Walk, records: readonly MappedRecord[]): Promise<boolean> {
  const isFirst = walk.number === 1
  const oldest = records.findLast((record) => record.kind === 'mapped')
  return !isFirst && !walk.full && oldest !== undefined && (await isKnownSince(db, oldest.message.id, walk))
}

/** The part of the conversation that the page shows whole: what is stored there and not on the page is gone. */
function stretchOf(walk: Walk, step: WalkStep, records: readonly MappedRecord[], observedAt: Date): Stretch {
  const messages = records.flatMap((record) => (record.kind === 'mapped' ? [record.message] : []))
  return {
    observedAt,
    ids: messages.map(({ id }) => id),
    newestAt: messages[0]?.sentAt ?? null,
    oldestAt: messages.at(-1)?.sentAt ?? null,
    isHead: walk.offset === 0,
    isEnd: step.kind === 'finished' && step.reachedEnd,
  }
}

function newestSentAt(records: readonly MappedRecord[]): Date | null {
  let newest: Date | null = null
  for (const record of records) {
    const sentAt = record.kind === 'mapped' ? record.message.sentAt : null
    if (sentAt !== null && (newest === null || sentAt > newest)) newest = sentAt
  }
  return newest
}
