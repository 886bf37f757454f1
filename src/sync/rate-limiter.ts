import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { Queryable } from '../store/queryable.ts'
import { channelBlockedForMs, readClock, reserveRequest } from '../store/rate-limits.ts'
import { createDatabaseClock } from './database-clock.ts'

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
 * Slots are 6 % further apart than the rate asks for. Requests leave up to 30 ms late; without the margin, a late
 * one and a punctual one would meet within the second that Kommo counts.
 */
const SPACING_MARGIN = 1.06
const LATEST_MS = 30

const WARM_UP_ANSWERS = 4

/** So long before its turn a request looks again whether the channel has been blocked. */
const LOOK_AGAIN_MS = 50

export function createRateLimiter(db: Queryable, requestsPerSecond: number): RateLimiter {
  const spacingMs = (1000 / requestsPerSecond) * SPACING_MARGIN
  const clock = createDatabaseClock()
  let warmedUp: Promise<void> | null = null

  /** The first answers are slow (connections are made), and would make the first requests leave early or late. */
  async function warmUp(): Promise<void> {
    for (let count = 0; count < WARM_UP_ANSWERS; count += 1) {
      const askedAt = performance.now()
      const databaseTime = await readClock(db)
      clock.observe({ askedAt, answeredAt: performance.now(), databaseTime })
    }
  }

  return {
    async acquire(channelId, signal) {
      warmedUp ??= warmUp().catch((error: unknown) => {
        warmedUp = null
        throw error
      })
      await warmedUp
      for (;;) {
        signal.throwIfAborted()
        const askedAt = performance.now()
        const token = await reserveRequest(db, channelId, spacingMs)
        if (token.kind === 'blocked') throw new ChannelBlockedError(channelId, token.forMs, token.reason)
        const databaseTime = token.at.getTime() - token.waitMs
        clock.observe({ askedAt, answeredAt: performance.now(), databaseTime })
        const slotAt = clock.toLocal(token.at.getTime())

        if (token.waitMs > LOOK_AGAIN_MS) {
          // Another replica may be refused while this one waits.
          await sleep(slotAt - LOOK_AGAIN_MS - performance.now(), undefined, { signal })
          const blockedMs = await channelBlockedForMs(db, channelId)
          if (blockedMs > 0) throw new ChannelBlockedError(channelId, blockedMs, null)
        }
        const waitMs = slotAt - performance.now()
        if (waitMs > 0) await sleep(waitMs, undefined, { signal })
        if (performance.now() - slotAt <= LATEST_MS) return token.at
      }
    },
  }
}
