import type { Json } from '../domain/json.ts'
import { createSlidingWindow, type SlidingWindow } from './sliding-window.ts'

/** How an answer goes wrong. */
export type Misbehaviour =
  /** 400, 404, 500, 503, … with an error body in Kommo's envelope; 404 with an empty one (seen). */
  | { kind: 'status'; status: number; errorType?: string; retryAfter?: RetryAfter }
  /** 429; without `retryAfter` the header is missing. */
  | { kind: 'too-many-requests'; retryAfter?: RetryAfter }
  /** 403: as for a wrong signature, unless another type is named. */
  | { kind: 'forbidden'; errorType?: string }
  /** The right answer, late. */
  | { kind: 'slow-headers'; delayMs: number }
  /** The right answer, its body trickling. */
  | { kind: 'slow-body'; bytesPerChunk: number; everyMs: number }
  /** The connection dies in the middle of the body. */
  | { kind: 'cut-off' }
  /** The connection dies before any answer. */
  | { kind: 'hang-up' }
  | { kind: 'unreadable-json' }
  | { kind: 'wrong-shape'; body?: Json }
  /** 200 without a body. */
  | { kind: 'empty' }

/** Seconds as a number, a moment as an HTTP date. */
export type RetryAfter = number | Date

/** Whom it meets (everybody, unless named) and how often (until cleared, unless counted). */
export interface FaultTarget {
  channelId?: string
  conversationId?: string
  times?: number
}

/** A history request that is well signed, before it is answered. */
export interface HistoryRequest {
  channelId: string
  scopeId: string
  conversationId: string
  limit: number
  offset: number
  /** 1 for the first history request of this conversation. */
  number: number
}

export type HistoryListener = (request: HistoryRequest) => void | Promise<void>

export interface Faults {
  /** Returns how to take it back. Of several that fit, the first added acts. */
  add(fault: Misbehaviour & FaultTarget): () => void
  /** Takes all back: faults, latency, rate limit, listeners. */
  clear(): void
  /** Delays every answer. */
  setLatency(latencyMs: number): void
  /** Answers 429 to what goes beyond, for each channel in any 1,000 ms; `null` turns it off. */
  setRateLimit(limit: { perSecond: number; retryAfter?: RetryAfter } | null): void
  /** Called, and waited for, before each answer to a history request: the moment to change a conversation. */
  onHistoryRequest(listener: HistoryListener): () => void
}

export interface FaultSource extends Faults {
  /** The fault that meets this request, used up by one. */
  take(channelId: string, conversationId: string | null, atMs: number): Misbehaviour | null
  readonly latencyMs: number
  readonly listeners: readonly HistoryListener[]
}

interface Armed {
  misbehaviour: Misbehaviour
  target: FaultTarget
  left: number
}

export function createFaults(): FaultSource {
  let armed: Armed[] = []
  let listeners: HistoryListener[] = []
  let latencyMs = 0
  let rateLimit: { perSecond: number; retryAfter?: RetryAfter } | null = null
  const admitted = new Map<string, SlidingWindow>()

  function exceedsRateLimit(channelId: string, atMs: number): boolean {
    if (rateLimit === null) return false
    const window = admitted.get(channelId) ?? createSlidingWindow(1_000)
    admitted.set(channelId, window)
    if (window.count(atMs) >= rateLimit.perSecond) return true
    window.add(atMs)
    return false
  }

  return {
    add(fault) {
      const entry: Armed = {
        misbehaviour: fault,
        target: fault,
        left: fault.times ?? Number.POSITIVE_INFINITY,
      }
      armed.push(entry)
      return () => {
        armed = armed.filter((other) => other !== entry)
      }
    },
    clear() {
      armed = []
      listeners = []
      latencyMs = 0
      rateLimit = null
      admitted.clear()
    },
    setLatency(ms) {
      latencyMs = ms
    },
    setRateLimit(limit) {
      rateLimit = limit
      admitted.clear()
    },
    onHistoryRequest(listener) {
      listeners = [...listeners, listener]
      return () => {
        listeners = listeners.filter((other) => other !== listener)
      }
    },
    take(channelId, conversationId, atMs) {
      if (exceedsRateLimit(channelId, atMs)) return { kind: 'too-many-requests', ...retryAfterOf(rateLimit) }
      const found = armed.find(({ target }) => meets(target, channelId, conversationId))
      if (found === undefined) return null
      found.left--
      if (found.left <= 0) armed = armed.filter((other) => other !== found)
      return found.misbehaviour
    },
    get latencyMs() {
      return latencyMs
    },
    get listeners() {
      return listeners
    },
  }
}

function meets(target: FaultTarget, channelId: string, conversationId: string | null): boolean {
  if (target.channelId !== undefined && target.channelId !== channelId) return false
  return target.conversationId === undefined || target.conversationId === conversationId
}

function retryAfterOf(limit: { retryAfter?: RetryAfter } | null): { retryAfter?: RetryAfter } {
  return limit?.retryAfter === undefined ? {} : { retryAfter: limit.retryAfter }
}
