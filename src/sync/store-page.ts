import type { ClaimedConversation, Walk } from '../domain/conversation.ts'
import type { MappedRecord } from '../domain/message.ts'
import { HISTORY_PAGE_SIZE } from '../kommo/client.ts'
import { checkpointWalk, completeWalk, isKnownSince } from '../store/conversations.ts'
import { type Stretch, markMissing } from '../store/missing-messages.ts'
import type { Database } from '../store/prisma.ts'
import { type StoredRecords, storeRecords, storeUnmappedRecords } from '../store/records.ts'
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
 * Stores a page and moves the checkpoint behind it, in one transaction: a crash leaves both or neither.
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
  const oldest = records.findLast((record) => record.kind === 'mapped')
  const lastMessageAt = newestSentAt(records)

  return prisma.$transaction(async (tx) => {
    const page = {
      keys,
      full: records.length >= HISTORY_PAGE_SIZE,
      reachesKnown: oldest !== undefined && (await isKnownSince(tx, oldest.message.id, walk)),
    }
    const step = walkStep(walk, page, HISTORY_PAGE_SIZE, stepsBack)
    // A page that does not join is true, but proves nothing of what is older than it.
    const stored = await storeRecords(tx, records, step.kind === 'stepBack' ? null : walk.number)
    await storeUnmappedRecords(tx, claim.id, records)
    if (step.kind !== 'stepBack') await markMissing(tx, claim.id, stretchOf(walk, step, records, observedAt))

    // The conversation's row comes last: webhooks wait for it, so it is held for as short as can be.
    if (step.kind === 'finished')
      await completeWalk(tx, claim, walk, { lastMessageAt, reachedEnd: step.reachedEnd })
    else await checkpointWalk(tx, claim, { ...walk, offset: step.offset, tail: step.tail }, lastMessageAt)
    return { stored, step, hasNews: keys.some((key) => !walk.tail.includes(key)) }
  })
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
