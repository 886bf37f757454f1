export interface RateLimit {
  /** @returns false when the key has used up what it may */
  take(key: string, nowMs: number): boolean
}

export interface RateLimitOptions {
  perSecond: number
  /** At once, after a rest. */
  burst: number
  /** Keys that are remembered; the one that was silent longest is forgotten first. */
  maxKeys?: number
}

/** A token bucket for each key, in memory: each process counts for itself. */
export function createRateLimit({ perSecond, burst, maxKeys = 10_000 }: RateLimitOptions): RateLimit {
  const buckets = new Map<string, { tokens: number; atMs: number }>()
  return {
    take(key, nowMs) {
      const { tokens, atMs } = buckets.get(key) ?? { tokens: burst, atMs: nowMs }
      const filled = Math.min(burst, tokens + (Math.max(0, nowMs - atMs) * perSecond) / 1000)
      const granted = filled >= 1
      buckets.delete(key)
      buckets.set(key, { tokens: granted ? filled - 1 : filled, atMs: nowMs })
      const [longestSilent] = buckets.keys()
      if (buckets.size > maxKeys && longestSilent !== undefined) buckets.delete(longestSilent)
      return granted
    },
  }
}
