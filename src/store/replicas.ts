import type { Role } from '../config.ts'
import type { Database } from './connection/database.ts'
import type { Queryable } from './connection/queryable.ts'

export interface Replica {
  /** UUID, made at the start of the process. */
  id: string
  role: Role
}

/** Any constant will do; it differs from the one of the migrations. */
const LOCK_KEY = 5_066_624_218_002

/** So many rests late by decree: ahead of whatever is merely due. */
const RESTS_AHEAD = 10

/** Records that the process lives. */
export async function recordSignOfLife(db: Queryable, { id, role }: Replica): Promise<void> {
  await db.$executeRaw`
    INSERT INTO kommo.replicas (id, role, seen_at) VALUES (${id}::uuid, ${role}, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`
}

export interface Absence {
  /** How long nobody received webhooks. */
  forMs: number
  /** Conversations that are read again because of it. */
  conversations: number
}

/**
 * Records that a receiver lives. If none was seen for longer than `absentAfterMs`, webhooks were sent to nobody:
 * conversations that were active up to a day before are then read again, before any other. Receivers come one at a
 * time, so of several that start together only the first finds the absence.
 *
 * @param intervalMs of reconcile; 0, which turns that off, only records
 * @returns `null` when a receiver was there, and when there never was one before
 */
export async function recordReceiver(
  { prisma }: Database,
  replica: Replica,
  { absentAfterMs, intervalMs }: { absentAfterMs: number; intervalMs: number },
): Promise<Absence | null> {
  return prisma.$transaction(
    async (tx) => {
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(${LOCK_KEY}::bigint)`
      const [last] = await tx.$queryRaw<{ seenAt: Date | null; forMs: number | null }[]>`
        SELECT max(seen_at) AS "seenAt", (extract(epoch FROM clock_timestamp() - max(seen_at)) * 1000)::float8 AS "forMs"
        FROM kommo.replicas WHERE role <> 'worker'`
      await recordSignOfLife(tx, replica)
      // Here, and not by the age alone somewhere else: the last sign of a receiver must outlast its absence.
      await tx.$executeRaw`DELETE FROM kommo.replicas WHERE seen_at < now() - interval '7 days'`
      const { seenAt = null, forMs = null } = last ?? {}
      if (seenAt === null || forMs === null || forMs <= absentAfterMs || intervalMs === 0) return null
      return { forMs, conversations: await readActiveFirst(tx, seenAt, intervalMs) }
    },
    { timeout: 60_000 },
  )
}

async function readActiveFirst(db: Queryable, seenAt: Date, intervalMs: number): Promise<number> {
  return db.$executeRaw`
    WITH active AS (
      SELECT id FROM kommo.conversations
      WHERE dead_at IS NULL AND COALESCE(last_message_at, created_at) > ${seenAt}::timestamptz - interval '1 day'
      ORDER BY id FOR UPDATE
    )
    UPDATE kommo.conversations AS c SET
      read_again_at = LEAST(c.read_again_at, now() - ${RESTS_AHEAD * intervalMs}::float8 * interval '1 ms'),
      -- A walk under way may have passed the newest message before the absence ended: it is followed by another.
      requested = CASE
        WHEN c.requested > c.processed AND (c.claim_id IS NOT NULL OR c.walk_requested IS NOT NULL)
        THEN c.requested + 1 ELSE c.requested END,
      updated_at = now()
    FROM active WHERE c.id = active.id`
}
