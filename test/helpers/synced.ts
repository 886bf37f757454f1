import type { Pool } from 'pg'
import { vi } from 'vitest'

/** Resolves when every call for a sync is answered and every webhook is handled; tells what is not when time is up. */
export async function untilSynced(pool: Pool, timeoutMs = 100_000): Promise<void> {
  await vi.waitFor(
    async () => {
      const { rows } = await pool.query<{ behind: number; waiting: number; why: string | null }>(`
        SELECT count(*)::int AS behind, max(last_error) AS why,
          (SELECT count(*)::int FROM kommo.webhook_events WHERE processed_at IS NULL) AS waiting
        FROM kommo.conversations WHERE requested > processed`)
      const [left] = rows
      if (left?.behind === 0 && left.waiting === 0) return
      throw new Error(`not synced yet: ${JSON.stringify(left)}`)
    },
    { timeout: timeoutMs, interval: 50 },
  )
}
