import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Role } from '../config.ts'
import type { Database } from '../store/connection/database.ts'
import { type Replica, recordReceiver, recordSignOfLife } from '../store/replicas.ts'
import { type Loop, startLoop } from './loop.ts'

export interface HeartbeatOptions {
  database: Database
  log: Logger
  role: Role
  /** 0: after an absence nothing is read again. */
  reconcileIntervalMs: number
  beatMs?: number
}

/** Three beats: a slow database is not an absence. */
const ABSENT_AFTER_MS = 30_000

/** Whoever tried to beat within it was there, and kept webhooks on disk: only the database was away. */
const PRESENT_MS = 60_000

/**
 * Keeps the process's row in `kommo.replicas` fresh. It stays when the process ends, so that the next receiver knows
 * for how long nobody was there; every beat of a receiver looks, because a machine that slept does not start.
 */
export function startHeartbeat({
  database,
  log,
  role,
  reconcileIntervalMs,
  beatMs = 10_000,
}: HeartbeatOptions): Pick<Loop, 'stop'> {
  const replica: Replica = { id: randomUUID(), role }
  let triedAt = Number.NEGATIVE_INFINITY

  return startLoop({
    name: 'heartbeat',
    log,
    async round() {
      if (role === 'worker') {
        await recordSignOfLife(database.prisma, replica)
        return beatMs
      }
      // By the clock on the wall: the other one stands still while a machine sleeps.
      const wasPresent = Date.now() - triedAt < PRESENT_MS
      triedAt = Date.now()
      const absence = await recordReceiver(database, replica, {
        absentAfterMs: wasPresent ? Number.POSITIVE_INFINITY : ABSENT_AFTER_MS,
        intervalMs: reconcileIntervalMs,
      })
      if (absence !== null) {
        log.warn(
          { absentForMs: Math.round(absence.forMs), conversations: absence.conversations },
          'nobody received webhooks for a while; the conversations that were active are read again',
        )
      }
      return beatMs
    },
  })
}
