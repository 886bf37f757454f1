import type { MappedRecord } from '../domain/message.ts'
import { parseScopeId } from '../domain/scope.ts'
import type { KommoClient } from '../kommo/client.ts'
import { KommoHttpError, KommoPayloadError, KommoUnreachableError } from '../kommo/errors.ts'
import { mapHistoryRecord } from '../kommo/map-message.ts'
import type { Metrics } from '../metrics.ts'
import type { Queryable } from '../store/connection/queryable.ts'
import { blockChannel, clearRefusals } from '../store/rate-limits.ts'
import type { RateLimiter, Turn } from './rate-limiter.ts'

export interface PageAddress {
  scopeId: string
  conversationId: string
  /** Records to skip from the newest one. */
  offset: number
}

export interface ObservedPage {
  /** In Kommo's order: newest first. */
  records: readonly MappedRecord[]
  /** The moment of the request by the database's clock. */
  observedAt: Date
}

export interface PageSignals {
  /** Ends the wait for the channel's turn. */
  waiting: AbortSignal
  /** Ends the request too. */
  asking: AbortSignal
}

export interface HistoryReader {
  /**
   * A page of a conversation's history, within the rate that all replicas share. A refusal that concerns the whole
   * channel (429, wrong secret) keeps everybody from asking it for a while.
   * @throws ChannelBlockedError, the errors of `KommoClient.getHistoryPage`, a signal's reason
   */
  readPage(address: PageAddress, signals: PageSignals): Promise<ObservedPage>
}

export interface HistoryReaderOptions {
  db: Queryable
  kommo: KommoClient
  rateLimiter: RateLimiter
  metrics: Pick<Metrics, 'historyRequests' | 'rateWaitSeconds'>
}

/** A refused signature does not mend itself within seconds; a rate does. */
const FIRST_PAUSE_MS = { refusedSignature: 30_000, other: 1000 }

export function createHistoryReader({
  db,
  kommo,
  rateLimiter,
  metrics,
}: HistoryReaderOptions): HistoryReader {
  async function ask(address: PageAddress, signal: AbortSignal, turn: Turn): Promise<ObservedPage> {
    const { scopeId, conversationId } = address
    const page = await kommo.getHistoryPage({ ...address, signal, onLeave: () => turn.leave() })
    const context = { scopeId, conversationId, observedAt: turn.at }
    return { records: page.map((record) => mapHistoryRecord(record, context)), observedAt: turn.at }
  }

  /** Counts what an answer came to, and tells the other replicas what they have to know. */
  async function takeNote(
    channelId: string,
    turn: Turn,
    asked: Promise<ObservedPage>,
  ): Promise<ObservedPage> {
    try {
      const page = await asked
      metrics.historyRequests.inc({ answer: 'ok' })
      if (turn.refusals > 0) await clearRefusals(db, channelId)
      return page
    } catch (error) {
      const answer = answerOf(error)
      if (answer !== null) metrics.historyRequests.inc({ answer })
      if (error instanceof KommoHttpError && error.channelFault) await tellRefusal(db, channelId, error)
      throw error
    }
  }

  return {
    async readPage(address, { waiting, asking }) {
      const { channelId } = parseScopeId(address.scopeId)
      const endWait = metrics.rateWaitSeconds.startTimer()
      return rateLimiter.inTurn(channelId, waiting, async (turn) => {
        endWait()
        return takeNote(channelId, turn, ask(address, asking, turn))
      })
    },
  }
}

function answerOf(error: unknown): string | null {
  if (error instanceof KommoHttpError) return String(error.status)
  if (error instanceof KommoUnreachableError) return 'unreachable'
  return error instanceof KommoPayloadError ? 'unreadable' : null
}

async function tellRefusal(db: Queryable, channelId: string, error: KommoHttpError): Promise<void> {
  await blockChannel(db, channelId, {
    pauseMs: error.retryAfterMs ?? null,
    firstPauseMs: error.status === 403 ? FIRST_PAUSE_MS.refusedSignature : FIRST_PAUSE_MS.other,
    reason: error.message,
  })
}
