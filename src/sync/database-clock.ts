export interface DatabaseClock {
  /** Takes in an answer that tells the database's time; all in milliseconds, ours by `performance.now()`. */
  observe(answer: { askedAt: number; answeredAt: number; databaseTime: number }): void
  /** A moment of the database, by our clock. */
  toLocal(databaseTime: number): number
}

/** After this long a slower answer is believed too: clocks drift apart. */
const FRESH_MS = 60_000
const TOLERANCE_MS = 2

/**
 * How far the database's clock is from ours, by its quickest answer of late: one that waited for a connection or for the
 * lock on a row tells little.
 */
export function createDatabaseClock(): DatabaseClock {
  let known = { tripMs: Number.POSITIVE_INFINITY, aheadMs: 0, observedAt: 0 }

  return {
    observe({ askedAt, answeredAt, databaseTime }) {
      const tripMs = answeredAt - askedAt
      // Whenever in between the database looked at its clock, it cannot be further off; else it has been set.
      const isPossible =
        known.aheadMs > databaseTime - answeredAt - TOLERANCE_MS &&
        known.aheadMs < databaseTime - askedAt + TOLERANCE_MS
      const isFresh = answeredAt - known.observedAt < FRESH_MS
      if (isPossible && isFresh && tripMs > known.tripMs) return
      known = { tripMs, aheadMs: databaseTime - (askedAt + tripMs / 2), observedAt: answeredAt }
    },
    toLocal: (databaseTime) => databaseTime - known.aheadMs,
  }
}
