import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from 'pg'
import { pendingMigrations } from '../migrations/migrate.ts'

export interface Availability {
  /** `[]`, `['database']` or `['migrations …']`, within a second. */
  missing(): Promise<string[]>
}

/** An orchestrator asks every few seconds and takes silence for an answer too. */
const WAIT_MS = 1000

/** Tells whether the database is there and its tables are up to date. */
export function createAvailability(pool: Pool): Availability {
  let asking: Promise<string[]> | null = null

  async function ask(): Promise<string[]> {
    try {
      const pending = await pendingMigrations(pool)
      return pending.length === 0 ? [] : [`migrations ${pending.join(', ')}`]
    } catch {
      return ['database']
    } finally {
      asking = null
    }
  }

  return {
    missing() {
      // A database that hangs is asked once, or the questions would use up the pool.
      asking ??= ask()
      return Promise.race([asking, sleep(WAIT_MS, ['database'], { ref: false })])
    },
  }
}
