/** With 20 attempts and waits that double up to an hour, a conversation is given up after some ten hours. */
export const MAX_ATTEMPTS = 20

const FIRST_MS = 1000
const LONGEST_MS = 3_600_000

/**
 * How long to wait before the next attempt: doubling, with jitter so that what failed together does not come back
 * together. What the other side asked for wins.
 *
 * @param attempt attempts that have failed, from 1
 * @param random from 0 to 1
 */
export function backoffMs(attempt: number, random: number, retryAfterMs?: number): number {
  const jitter = 0.75 + random / 2
  if (retryAfterMs !== undefined) return retryAfterMs + random * FIRST_MS
  return Math.min(FIRST_MS * 2 ** (attempt - 1), LONGEST_MS) * jitter
}
