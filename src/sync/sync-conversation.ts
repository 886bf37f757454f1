import type { Logger } from 'pino'
import type { ClaimedConversation } from '../domain/conversation.ts'
import { type Metrics, countRepaired, countStored, observeLag } from '../metrics.ts'
import type { Database } from '../store/connection/database.ts'
import type { HistoryReader } from './history-reader.ts'
import { storePage } from './store-page.ts'
import { createWalkGuard } from './walk-guard.ts'

export interface SyncDependencies {
  database: Database
  history: HistoryReader
  metrics: Metrics
  log: Logger
}

export interface StopSignals {
  /** Finish the page in hand and begin no other. */
  stopping: AbortSignal
  /** Let go of the page in hand too. */
  cutOff: AbortSignal
}

/**
 * Reads a claimed conversation's history page by page until what is stored connects to it without a hole. Each page
 * is stored with its checkpoint before the next is asked for, so a walk resumes where it stopped.
 */
export async function syncConversation(
  claim: ClaimedConversation,
  { database, history, metrics, log }: SyncDependencies,
  { stopping, cutOff }: StopSignals,
): Promise<'finished' | 'stopped'> {
  const { id: conversationId, scopeId } = claim
  const guard = createWalkGuard(conversationId)
  let walk = claim.walk

  while (!stopping.aborted) {
    const address = { scopeId, conversationId, offset: walk.offset }
    const page = await history.readPage(address, { waiting: stopping, asking: cutOff })
    const { stored, step, hasNews } = await storePage(database, claim, walk, page, guard.stepsBack)
    metrics.pages.inc()
    countStored(metrics, 'history', stored)
    if (walk.number > 1) observeLag(metrics, 'history', stored)
    if (claim.unannounced && walk.number > 1) countRepaired(metrics, stored)
    const { inserted, updated, unchanged } = stored
    log.debug(
      { conversationId, offset: walk.offset, inserted, updated, unchanged, step: step.kind },
      'page stored',
    )
    if (step.kind === 'finished') return 'finished'
    guard.check(walk, step, hasNews)
    walk = { ...walk, offset: step.offset, tail: step.tail }
  }
  return 'stopped'
}
