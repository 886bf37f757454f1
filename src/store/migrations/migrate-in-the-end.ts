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
 * @throws MigrationError at the start, where waiting does not help, or the signal's reason.
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
      if (!(error instanceof MigrationError) || (!error.retryable && isStarting())) throw error
      if (error.retryable) {
        log.warn({ err: error, retryInMs: waitMs }, 'the tables cannot be brought up to date yet')
      } else if (error.message !== told) {
        log.fatal({ err: error }, 'nothing is synced: the tables are not up to date')
        told = error.message
      }
      onDelay()
    }
    await sleep(waitMs, undefined, { signal })
  }
}
