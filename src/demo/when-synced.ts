import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../store/connection/database.ts'

const LOOK_EVERY_MS = 100
const PATIENCE_MS = 60_000

/** Resolves when no conversation is behind and no webhook waits. */
export async function whenSynced({ pool }: Database): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const { rows } = await pool.query<{ open: boolean }>(`
      SELECT EXISTS (SELECT FROM kommo.conversations WHERE requested > processed)
          OR EXISTS (SELECT FROM kommo.webhook_events WHERE processed_at IS NULL) AS open`)
    if (rows[0]?.open === false) return
    if (Date.now() > deadline)
      throw new Error('The conversations were not read within a minute; see LOG_LEVEL=info')
    await sleep(LOOK_EVERY_MS)
  }
}
