import { createRecent } from './recent.ts'
import { createSlidingWindow, type SlidingWindow } from './sliding-window.ts'

/** One request as it was answered. */
export interface LoggedRequest {
  at: Date
  method: string
  path: string
  /** `null` where the path names none. */
  channelId: string | null
  conversationId: string | null
  /** Of history requests, as the query had them. */
  limit: string | null
  offset: string | null
  /** `null` until answered, or when the connection was cut before any answer. */
  status: number | null
  /** Why it was refused, where the status alone does not say. */
  reason: string | null
}

export interface StatsSnapshot {
  requests: number
  historyRequests: number
  byStatus: Record<number, number>
  byChannel: Record<string, number>
  /** History requests. */
  byConversation: Record<string, number>
}

export interface Stats {
  snapshot(): StatsSnapshot
  historyRequestsOf(conversationId: string): number
  /** The most history requests that arrived within any 1,000 ms, refused ones included. */
  peakPerSecond(channelId?: string): number
  /** The latest 10,000 requests, in order of arrival. */
  recent(): LoggedRequest[]
  /** Back to zero. */
  reset(): void
}

export interface StatsRecorder extends Stats {
  arrived(request: LoggedRequest, isHistory: boolean, atMs: number): void
  answered(request: LoggedRequest, status: number): void
}

export function createStats(): StatsRecorder {
  const log = createRecent<LoggedRequest>(10_000)
  const byStatus = new Map<number, number>()
  const byChannel = new Map<string, number>()
  const byConversation = new Map<string, number>()
  const windows = new Map<string, SlidingWindow>()
  let requests = 0
  let historyRequests = 0

  return {
    arrived(request, isHistory, atMs) {
      requests++
      log.add(request)
      const { channelId, conversationId } = request
      if (channelId !== null) increment(byChannel, channelId)
      if (!isHistory) return
      historyRequests++
      if (conversationId !== null) increment(byConversation, conversationId)
      if (channelId !== null) windowOf(windows, channelId).add(atMs)
    },
    answered(request, status) {
      request.status = status
      increment(byStatus, status)
    },
    snapshot: () => ({
      requests,
      historyRequests,
      byStatus: Object.fromEntries(byStatus),
      byChannel: Object.fromEntries(byChannel),
      byConversation: Object.fromEntries(byConversation),
    }),
    historyRequestsOf: (conversationId) => byConversation.get(conversationId) ?? 0,
    peakPerSecond(channelId) {
      if (channelId !== undefined) return windows.get(channelId)?.peak ?? 0
      return Math.max(0, ...[...windows.values()].map(({ peak }) => peak))
    },
    recent: () => log.list(),
    reset() {
      for (const counts of [byStatus, byChannel, byConversation, windows]) counts.clear()
      log.clear()
      requests = 0
      historyRequests = 0
    },
  }
}

function increment<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

function windowOf(windows: Map<string, SlidingWindow>, channelId: string): SlidingWindow {
  const known = windows.get(channelId)
  if (known !== undefined) return known
  const made = createSlidingWindow(1_000)
  windows.set(channelId, made)
  return made
}
