import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { Queryable } from '../store/connection/queryable.ts'
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

/** The request was about to leave so late that it could meet the next ones within a second. It did not leave. */
class TurnMissedError extends AppError {
  constructor(channelId: string) {
    super(`A request missed its turn at channel ${channelId}`, { code: 'turn_missed', retryable: true })
  }
}

/** A request's place in the rate of its channel. */
export interface Turn {
  /** The moment of the request by the database's clock. */
  at: Date
  /** Refusals in a row, by all replicas, that the channel has not made good for yet. */
  refusals: number
  /**
   * To be called as the request's first byte is about to leave, when it has been signed and its connection is there.
   * What it throws must end the request, and come out of the function that `inTurn` called.
   */
  leave(): void
}

export interface RateLimiter {
  /**
   * Waits for the channel's turn and calls `ask`; again with another turn if the request could not leave in time.
   * @returns what `ask` returns
   * @throws ChannelBlockedError, the signal's reason, or what `ask` throws
   */
  inTurn<T>(channelId: string, signal: AbortSignal, ask: (turn: Turn) => Promise<T>): Promise<T>
}

/**
 * Turns are 6 % further apart than the rate asks for. Requests leave up to `PUNCTUAL_MS` late; without the margin, a
 * late one and a punctual one would meet within the second that Kommo counts.
 */
const SPACING_MARGIN = 1.06
const PUNCTUAL_MS = 20

/** A request that cannot be punctual (each one needs a handshake, the machine is busy) gets more time, and more room after it. */
const MOST_LATE_MS = 2000

const WARM_UP_ANSWERS = 4

/** So long before its turn a request looks again whether the channel has been blocked. */
const LOOK_AGAIN_MS = 50

export function createRateLimiter(db: Queryable, requestsPerSecond: number): RateLimiter {
  const spacingMs = (1000 / requestsPerSecond) * SPACING_MARGIN
  // Less than one a second leaves room to be late in.
  const punctualMs = Math.max(PUNCTUAL_MS, (spacingMs - 1000) / 3)
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

  async function nextTurn(channelId: string, lateMs: number, signal: AbortSignal): Promise<Turn> {
    signal.throwIfAborted()
    const askedAt = performance.now()
    const slot = await reserveRequest(db, channelId, spacingMs + lateMs - punctualMs)
    if (slot.kind === 'blocked') throw new ChannelBlockedError(channelId, slot.forMs, slot.reason)
    const databaseTime = slot.at.getTime() - slot.waitMs
    clock.observe({ askedAt, answeredAt: performance.now(), databaseTime })
    const slotAt = clock.toLocal(slot.at.getTime())

    if (slot.waitMs > LOOK_AGAIN_MS) {
      // Another replica may be refused while this one waits.
      await sleepUntil(slotAt - LOOK_AGAIN_MS, signal)
      const blockedMs = await channelBlockedForMs(db, channelId)
      if (blockedMs > 0) throw new ChannelBlockedError(channelId, blockedMs, null)
    }
    await sleepUntil(slotAt, signal)
    return {
      at: slot.at,
      refusals: slot.refusals,
      leave() {
        if (performance.now() - slotAt > lateMs) throw new TurnMissedError(channelId)
      },
    }
  }

  return {
    async inTurn(channelId, signal, ask) {
      warmedUp ??= warmUp().catch((error: unknown) => {
        warmedUp = null
        throw error
      })
      await warmedUp
      for (let missed = 0; ; missed += 1) {
        // Once is chance, or the handshake, which has been made now.
        const lateMs = Math.max(
          punctualMs,
          Math.min(PUNCTUAL_MS * 2 ** Math.max(0, missed - 1), MOST_LATE_MS),
        )
        try {
          return await ask(await nextTurn(channelId, lateMs, signal))
        } catch (error) {
          if (!(error instanceof TurnMissedError)) throw error
        }
      }
    },
  }
}

/** @param moment by `performance.now()` */
async function sleepUntil(moment: number, signal: AbortSignal): Promise<void> {
  const waitMs = moment - performance.now()
  if (waitMs > 0) await sleep(waitMs, undefined, { signal })
}
