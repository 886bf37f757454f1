import type { Logger } from 'pino'
import type { Database } from '../store/connection/database.ts'
import { callForDueReads, scheduleReads } from '../store/reconcile.ts'
import { type Loop, startLoop } from './loop.ts'

export interface ReconcileOptions {
  database: Database
  log: Logger
  channelIds: readonly string[]
  /** For each channel, all replicas together. */
  requestsPerSecond: number
  /** How often a conversation of today is read again; above 0. */
  intervalMs: number
}

const ROUND_MS = 2000

/** Of the channel's rate: the rest is for what webhooks, hints and operators ask for. */
const SHARE = 0.5

/**
 * Reads conversations again that nothing asks for: webhooks tell only of what leaves Kommo, and some are lost. Here
 * they are only called for; the workers read them like any other. An unchanged conversation costs one request.
 */
export function startReconcile(options: ReconcileOptions): Pick<Loop, 'stop'> {
  const { database, log, channelIds, requestsPerSecond, intervalMs } = options
  const db = database.prisma
  const atMost = (requestsPerSecond * SHARE * ROUND_MS) / 1000

  return startLoop({
    name: 'reconcile',
    log,
    async round() {
      await scheduleReads(db, intervalMs)
      for (const channelId of channelIds) {
        const called = await callForDueReads(db, { channelId, intervalMs, atMost })
        if (called > 0) log.debug({ channelId, conversations: called }, 'conversations are read again')
      }
      // Replicas must not look at the same moment.
      return ROUND_MS * (0.75 + Math.random() / 2)
    },
  })
}
