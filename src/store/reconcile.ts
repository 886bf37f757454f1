import { Prisma } from './generated/client.ts'
import type { Queryable } from './connection/queryable.ts'

/** A conversation is read again at least this often, and to its oldest message at least this often: history is imported. */
const LONGEST_MS = 30 * 86_400_000

/** Conversations that get their time in one statement. */
const SCHEDULE_BATCH = 1000

/** A channel with less open than this has room, however slow it is. */
const LEAST_OPEN = 4

/**
 * How long the conversation `c` rests between two reads that nothing asks for: the interval, times its whole days of
 * quiet, at most 30 days. With 1 h, what a client writes after days of silence is noticed within 4 % of that silence,
 * and a conversation costs some 120 requests in its first month of quiet, 60 in the eleven that follow.
 */
function restOf(intervalMs: number): Prisma.Sql {
  return Prisma.sql`(interval '1 ms' * GREATEST(${intervalMs}::float8, LEAST(${LONGEST_MS}::float8,
    ${intervalMs}::float8 * GREATEST(1, floor(extract(epoch FROM now() - COALESCE(c.last_message_at, c.created_at)) / 86400))))::float8)`
}

/**
 * Gives a time to conversations that have none, as after each completed walk: their rest after it, ± 10 %. Those that
 * would be due already (the service was off, or did not reconcile) are spread over a whole rest.
 *
 * @returns how many; there may be more when it is the batch size
 */
export async function scheduleReads(db: Queryable, intervalMs: number): Promise<number> {
  const rest = restOf(intervalMs)
  return db.$executeRaw`
    WITH unscheduled AS (
      SELECT id FROM kommo.conversations
      WHERE read_again_at IS NULL AND requested = processed AND dead_at IS NULL AND synced_at IS NOT NULL
      LIMIT ${SCHEDULE_BATCH}::int FOR UPDATE SKIP LOCKED
    )
    UPDATE kommo.conversations AS c SET read_again_at = CASE
      WHEN c.synced_at + ${rest} > now() THEN c.synced_at + ${rest} * (0.9 + 0.2 * random())
      ELSE now() + ${rest} * random() END
    FROM unscheduled WHERE c.id = unscheduled.id`
}

export interface ReadsToCall {
  channelId: string
  intervalMs: number
  /** For all replicas together; a broken number is reached on average. */
  atMost: number
}

/**
 * Calls for a sync of conversations whose time has come, the latest first, by the measure of their own rest: of those
 * that became due together the newest activity comes first, and none waits for ever. Replicas share `atMost`; a
 * channel that is blocked, or has that many conversations open already, gets none, so that nothing piles up and what
 * webhooks call for is never far behind. A history that was not read to its end for 30 days is read whole.
 */
export async function callForDueReads(
  db: Queryable,
  { channelId, intervalMs, atMost }: ReadsToCall,
): Promise<number> {
  const [row] = await db.$queryRaw<{ called: number }[]>`
    WITH replicas AS (
      SELECT GREATEST(1, count(*)) AS reading FROM kommo.replicas
      WHERE role <> 'receiver' AND seen_at > now() - interval '30 s'
    ), open AS (
      SELECT count(*) AS conversations FROM kommo.conversations
      WHERE requested > processed AND dead_at IS NULL AND split_part(scope_id, '_', 1) = ${channelId}
        -- What waits for its back-off is in nobody's way.
        AND (claim_id IS NOT NULL OR run_after <= now() + interval '1 s')
    ), room AS (
      SELECT LEAST(
        floor(${atMost}::float8 / reading + random()), GREATEST(${LEAST_OPEN}::int, ${atMost}::float8) - conversations
      ) AS reads
      FROM replicas, open
      WHERE NOT EXISTS (
        SELECT FROM kommo.rate_limits WHERE channel_id = ${channelId} AND blocked_until > now())
    ), due AS (
      SELECT id FROM kommo.conversations AS c
      WHERE read_again_at <= now() AND requested = processed AND dead_at IS NULL
        AND split_part(scope_id, '_', 1) = ${channelId}
      ORDER BY extract(epoch FROM now() - read_again_at) / extract(epoch FROM ${restOf(intervalMs)}) DESC,
        last_message_at DESC NULLS LAST
      LIMIT COALESCE((SELECT GREATEST(0, floor(reads)::int) FROM room), 0) FOR UPDATE SKIP LOCKED
    ), called AS (
      UPDATE kommo.conversations AS c SET
        requested = c.requested + 1, read_again_at = NULL,
        full_walk_request = CASE
          WHEN COALESCE(c.full_walk_at, c.created_at) < now() - ${LONGEST_MS}::float8 * interval '1 ms'
          THEN c.requested + 1 ELSE c.full_walk_request END,
        run_after = GREATEST(c.run_after, now()), updated_at = now()
      FROM due WHERE c.id = due.id
      RETURNING 1
    )
    SELECT count(*)::float8 AS called, CASE WHEN count(*) > 0 THEN pg_notify('kommo_sync', '')::text END AS notified
    FROM called`
  return row?.called ?? 0
}
