import { setTimeout as sleep } from 'node:timers/promises'
import type { BaseLogger } from 'pino'
import { MigrationError, migrate } from './migrate.ts'

const RETRY_MS = { first: 500, most: 5000 }

export interface MigrateInTheEndOptions {
  log: Pick<BaseLogger, 'info' | 'warn' | 'fatal'>
  signal: AbortSignal
  /** A start ends with what will not pass by itself; what serves already goes on, until somebody has removed it. */
  isStarting(): boolean
  /** The database could not be reached and is tried again. */
  onDelay(): void
}

/**
 * Migrates as soon as the database can be reached.
 * @throws at the start what waiting does not help against, and the signal's reason.
 */
export async function migrateInTheEnd(
  databaseUrl: string,
  { log, signal, isStarting, onDelay }: MigrateInTheEndOptions,
): Promise<void> {
  let told = ''
  for (let waitMs = RETRY_MS.first; ; waitMs = Math.min(waitMs * 2, RETRY_MS.most)) {
    try {
      await migrate(databaseUrl, { log, signal })
      return
    } catch (error) {
      signal.throwIfAborted()
      const passes = error instanceof MigrationError && error.retryable
      if (!passes && isStarting()) throw error
      if (passes) {
        log.warn({ err: error, retryInMs: waitMs }, 'the tables cannot be brought up to date yet')
      } else if (String(error) !== told) {
        log.fatal({ err: error }, 'nothing is synced: the tables are not up to date')
        told = String(error)
      }
      onDelay()
    }
    await sleep(waitMs, undefined, { signal })
  }
}
