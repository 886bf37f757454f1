import type { Logger } from 'pino'
import type { ClaimedConversation } from '../domain/conversation.ts'
import { parseScopeId } from '../domain/scope.ts'
import type { KommoClient } from '../kommo/client.ts'
import { KommoHttpError, KommoPayloadError, KommoUnreachableError } from '../kommo/errors.ts'
import { mapHistoryRecord } from '../kommo/map-message.ts'
import { type Metrics, countStored } from '../metrics.ts'
import type { Database } from '../store/prisma.ts'
import type { RateLimiter } from './rate-limiter.ts'
import { storePage } from './store-page.ts'

export interface SyncDependencies {
  database: Database
  kommo: KommoClient
  rateLimiter: RateLimiter
  metrics: Metrics
  log: Logger
}

export interface StopSignals {
  /** Finish the page in hand and begin no other. */
  stopping: AbortSignal
  /** Let go of the page in hand too. */
  cutOff: AbortSignal
}

/** Pages in a row that bring a walk no further: then the list cannot be paged now. */
const MAX_DETOURS = 10

/**
 * Reads a claimed conversation's history page by page until what is stored connects to it without a hole. Each page
 * is stored with its checkpoint before the next is asked for, so a walk resumes where it stopped.
 *
 */
export async function syncConversation(
  claim: ClaimedConversation,
  { database, kommo, rateLimiter, metrics, log }: SyncDependencies,
  { stopping, cutOff }: StopSignals,
): Promise<'finished' | 'stopped'> {
  const { id: conversationId, scopeId } = claim
  const { channelId } = parseScopeId(scopeId)
  let walk = claim.walk
  let deepest = -1
  let stepsBack = 0
  let detours = 0

  while (!stopping.aborted) {
    const observedAt = await rateLimiter.acquire(channelId, stopping)
    const page = await countingAnswers(
      metrics,
      kommo.getHistoryPage({ scopeId, conversationId, offset: walk.offset, signal: cutOff }),
    )
    const records = page.map((record) => mapHistoryRecord(record, { scopeId, conversationId, observedAt }))
    const { stored, step, hasNews } = await storePage(
      database,
      claim,
      walk,
      { records, observedAt },
      stepsBack,
    )
    countStored(metrics, 'history', stored)
    if (claim.unannounced && walk.number > 1) metrics.messagesRepaired.inc(stored.inserted)
    log.debug(
      { conversationId, offset: walk.offset, records: records.length, ...stored, step: step.kind },
      'page stored',
    )
    if (step.kind === 'finished') return 'finished'

    stepsBack = step.kind === 'stepBack' ? stepsBack + 1 : 0
    detours = step.kind === 'next' && hasNews && walk.offset > deepest ? 0 : detours + 1
    if (detours > MAX_DETOURS) {
      throw new KommoPayloadError(
        `The history of conversation ${conversationId} cannot be paged: its pages neither join nor lead further`,
      )
    }
    deepest = Math.max(deepest, walk.offset)
    walk = { ...walk, offset: step.offset, tail: step.tail }
  }
  return 'stopped'
}

async function countingAnswers<T>({ historyRequests }: Metrics, request: Promise<T>): Promise<T> {
  try {
    const answer = await request
    historyRequests.inc({ answer: 'ok' })
    return answer
  } catch (error) {
    if (error instanceof KommoHttpError) historyRequests.inc({ answer: String(error.status) })
    else if (error instanceof KommoUnreachableError) historyRequests.inc({ answer: 'unreachable' })
    else if (error instanceof KommoPayloadError) historyRequests.inc({ answer: 'unreadable' })
    throw error
  }
}
