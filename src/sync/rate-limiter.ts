import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { Queryable } from '../store/queryable.ts'
import { channelBlockedForMs, reserveRequest } from '../store/rate-limits.ts'

/** Nobody may ask this channel now: Kommo refused it (429) or does not accept the secret. */
export class ChannelBlockedError extends AppError {
  constructor(channelId: string, forMs: number, reason: string | null) {
    super(
      `Channel ${channelId} must not be asked for ${Math.ceil(forMs / 1000)} s${reason === null ? '' : `: ${reason}`}`,
      { code: 'channel_blocked', retryable: true, retryAfterMs: forMs },
    )
  }
}

export interface RateLimiter {
  /**
   * Waits for the channel's turn.
   * @returns the moment of the request by the database's clock
   * @throws ChannelBlockedError, or the signal's reason
   */
  acquire(channelId: string, signal: AbortSignal): Promise<Date>
}

/**
 * Slots are 5 % further apart than the rate asks for. Requests leave up to 20 ms late; without the margin, a late
 * one and a punctual one would meet within the second that Kommo counts.
 */
const SPACING_MARGIN = 1.05
const LATEST_MS = 20

export function createRateLimiter(db: Queryable, requestsPerSecond: number): RateLimiter {
  const spacingMs = (1000 / requestsPerSecond) * SPACING_MARGIN

  return {
    async acquire(channelId, signal) {
      for (;;) {
        signal.throwIfAborted()
        const token = await reserveRequest(db, channelId, spacingMs)
        if (token.kind === 'blocked') throw new ChannelBlockedError(channelId, token.forMs, token.reason)
        if (token.waitMs === 0) return token.at

        const reservedAt = performance.now()
        await sleep(token.waitMs, undefined, { signal })
        // Another replica may have been refused while this one slept.
        const blockedMs = await channelBlockedForMs(db, channelId)
        if (blockedMs > 0) throw new ChannelBlockedError(channelId, blockedMs, null)
        const lateMs = performance.now() - reservedAt - token.waitMs
        if (lateMs <= LATEST_MS) return token.at
      }
    },
  }
}
