import { setTimeout as sleep } from 'node:timers/promises'
import type { BaseLogger } from 'pino'
import { MigrationError, migrate } from './migrate.ts'

const RETRY_MS = { first: 500, most: 5000 }

export interface MigrateInTheEndOptions {
  log: Pick<BaseLogger, 'info' | 'warn'>
  signal: AbortSignal
  /** The database could not be reached and is tried again. */
  onDelay(): void
}

/**
 * Migrates as soon as the database can be reached.
 * @throws MigrationError where waiting does not help, or the signal's reason.
 */
export async function migrateInTheEnd(
  databaseUrl: string,
  { log, signal, onDelay }: MigrateInTheEndOptions,
): Promise<void> {
  for (let waitMs = RETRY_MS.first; ; waitMs = Math.min(waitMs * 2, RETRY_MS.most)) {
    try {
      await migrate(databaseUrl, { log, signal })
      return
    } catch (error) {
      if (!(error instanceof MigrationError && error.retryable)) throw error
      log.warn({ err: error, retryInMs: waitMs }, 'the tables cannot be brought up to date yet')
      onDelay()
    }
    await sleep(waitMs, undefined, { signal })
  }
}
