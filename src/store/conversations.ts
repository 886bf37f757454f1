import type { ClaimedConversation, Walk } from '../domain/conversation.ts'
import { AppError } from '../errors.ts'
import { Prisma } from './generated/client.ts'
import type { Queryable } from './connection/queryable.ts'
import { withoutWaiting } from './connection/without-waiting.ts'

/** The claim has run out and somebody else may hold the conversation: this worker's write did not happen. */
export class LeaseLostError extends AppError {
  constructor(conversationId: string) {
    super(
      `The lease on conversation ${conversationId} ran out; another worker goes on from the last stored page`,
      {
        code: 'lease_lost',
        retryable: true,
      },
    )
  }
}

/** How long a claim lasts unless it is renewed: what a worker that died or hangs had in hand waits that long. */
export const LEASE_MS = 15_000

/** History is read at most this often for one conversation: many webhooks, one read. */
const READ_INTERVAL_MS = 1000

interface ClaimedRow {
  id: string
  scopeId: string
  claimId: string
  requested: bigint
  attempts: number
  answered: boolean
  unannounced: boolean
  walksCompleted: number
  full: boolean
  walkRequested: bigint | null
  walkOffset: number | null
  walkTail: string[]
}

/**
 * Claims conversations of a channel that are due, oldest first, none that another worker holds, and none at all while the
 * channel is blocked.
 *
 * `run_after` is the lease as well: a claimed conversation is not due before it ends. A call is answered already
 * when a completed walk has seen the message that its webhook brings, because that walk began after the message was
 * made; reactions to old messages, and calls without a webhook (operator, command line), never are.
 *
 * @param toRead how many of those whose history is to be read
 * @param lookFurther among how many more that are due the answered ones are claimed too
 */
export async function claimConversations(
  db: Queryable,
  channelId: string,
  toRead: number,
  lookFurther = 0,
): Promise<ClaimedConversation[]> {
  const rows = await db.$queryRaw<ClaimedRow[]>`
    WITH due AS (
      SELECT id, requested, processed, walks_completed, run_after FROM kommo.conversations
      WHERE split_part(scope_id, '_', 1) = ${channelId} AND requested > processed AND dead_at IS NULL
        -- Rounded as the column is: what was made due "now" half a millisecond ago is due.
        AND run_after <= now()::timestamptz(3)
        AND NOT EXISTS (SELECT FROM kommo.rate_limits WHERE channel_id = ${channelId} AND blocked_until > now())
      ORDER BY run_after LIMIT ${toRead + lookFurther}::int FOR UPDATE SKIP LOCKED
    ), judged AS (
      SELECT id, run_after, requested - processed = (
        SELECT count(*) FROM kommo.webhook_events AS e JOIN kommo.messages AS m ON m.id = e.message_id
        WHERE e.conversation_id = due.id AND e.sync_request > due.processed
          AND e.sync_request <= due.requested AND e.kind = 'message' AND m.first_walk <= due.walks_completed
      ) AS answered
      FROM due
    ), chosen AS (
      SELECT id, answered, row_number() OVER (PARTITION BY answered ORDER BY run_after) AS place FROM judged
    ), claimed AS (
      UPDATE kommo.conversations AS c
      SET claim_id = gen_random_uuid(), run_after = now() + ${LEASE_MS}::int * interval '1 ms'
      FROM chosen WHERE c.id = chosen.id AND (chosen.answered OR chosen.place <= ${toRead}::int)
      RETURNING c.*, chosen.answered
    )
    SELECT
      id, scope_id AS "scopeId", claim_id::text AS "claimId", requested, attempts,
      walks_completed AS "walksCompleted", COALESCE(full_walk_request > processed, false) AS full,
      walk_requested AS "walkRequested", walk_offset AS "walkOffset", walk_tail AS "walkTail", answered,
      NOT EXISTS (
        SELECT FROM kommo.webhook_events AS e
        WHERE e.conversation_id = claimed.id AND e.sync_request > claimed.processed
          AND e.sync_request <= claimed.requested
      ) AS unannounced,
      ${withoutWaiting} AS commits
    FROM claimed`
  return rows.map((row) => ({
    id: row.id,
    scopeId: row.scopeId,
    claimId: row.claimId,
    requested: row.requested,
    attempts: row.attempts,
    answered: row.answered,
    unannounced: row.unannounced,
    walk: {
      number: row.walksCompleted + 1,
      requested: row.walkRequested ?? row.requested,
      full: row.full,
      offset: row.walkOffset ?? 0,
      tail: row.walkTail,
    },
  }))
}

/** Milliseconds until the channel's next conversation can be claimed; `null` when none waits. */
export async function nextDueInMs(db: Queryable, channelId: string): Promise<number | null> {
  const [row] = await db.$queryRaw<{ ms: number | null }[]>`
    SELECT (extract(epoch FROM GREATEST(min(c.run_after), max(r.blocked_until)) - now()) * 1000)::float8 AS ms
    FROM kommo.conversations AS c LEFT JOIN kommo.rate_limits AS r ON r.channel_id = ${channelId}
    WHERE split_part(c.scope_id, '_', 1) = ${channelId} AND requested > processed AND dead_at IS NULL
    HAVING count(*) > 0`
  return row?.ms ?? null
}

/**
 * Whether a completed walk has seen the message: then everything older is stored. One that was missing and is back
 * proves nothing: others may be back behind it.
 */
export async function isKnownSince(db: Queryable, messageId: string, walk: Walk): Promise<boolean> {
  const rows = await db.$queryRaw<unknown[]>`
    SELECT 1 FROM kommo.messages
    WHERE id = ${messageId} AND first_walk < ${walk.number}::int AND missing_since IS NULL`
  return rows.length > 0
}

/** The conversation, locked, if the claim still holds. */
export function heldConversation({ id, claimId }: ClaimedConversation): Prisma.Sql {
  return Prisma.sql`SELECT id FROM kommo.conversations WHERE id = ${id} AND claim_id = ${claimId}::uuid FOR NO KEY UPDATE`
}

/** Moves the checkpoint of a conversation that is `held` behind a stored page, and renews the lease. */
export function checkpoint(walk: Walk, lastMessageAt: Date | null): Prisma.Sql {
  return Prisma.sql`
    UPDATE kommo.conversations AS c SET
      walk_requested = ${walk.requested}, walk_offset = ${walk.offset}::int, walk_tail = ${walk.tail}::text[],
      -- New messages are stored above a stretch that is not: until the walk connects there is a hole.
      history_complete = false,
      last_message_at = GREATEST(c.last_message_at, ${lastMessageAt}::timestamptz),
      run_after = now() + ${LEASE_MS}::int * interval '1 ms', updated_at = now()
    FROM held WHERE c.id = held.id`
}

/** Keeps what this worker has in hand. A row that is being written just now is left to the next round. */
export async function renewLeases(db: Queryable, claims: readonly ClaimedConversation[]): Promise<void> {
  if (claims.length === 0) return
  await db.$executeRaw`
    WITH held AS (
      SELECT c.id FROM kommo.conversations AS c
      JOIN unnest(
        ${claims.map(({ id }) => id)}::text[], ${claims.map(({ claimId }) => claimId)}::uuid[]
      ) AS claim (id, claim_id) ON c.id = claim.id AND c.claim_id = claim.claim_id
      ORDER BY c.id FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE kommo.conversations AS c SET run_after = now() + ${LEASE_MS}::int * interval '1 ms'
    FROM held WHERE c.id = held.id`
}

/** Ends the job of a conversation that is `held`: the walk reached what is known, or the oldest message, without a hole. */
export function completion(walk: Walk, lastMessageAt: Date | null, reachedEnd: boolean): Prisma.Sql {
  return Prisma.sql`
    UPDATE kommo.conversations AS c SET
      full_walk_at = CASE WHEN ${reachedEnd} THEN now() ELSE c.full_walk_at END,
      processed = ${walk.requested}, walks_completed = ${walk.number}::int, history_complete = true,
      walk_requested = NULL, walk_offset = NULL, walk_tail = '{}', synced_at = now(), read_again_at = NULL,
      last_message_at = GREATEST(c.last_message_at, ${lastMessageAt}::timestamptz),
      claim_id = NULL, attempts = 0, last_error = NULL,
      run_after = now() + ${READ_INTERVAL_MS}::int * interval '1 ms', updated_at = now()
    FROM held WHERE c.id = held.id`
}

/** Ends jobs for which there was nothing new to read. */
export async function completeAnswered(db: Queryable, claims: readonly ClaimedConversation[]): Promise<void> {
  if (claims.length === 0) return
  await db.$executeRaw`
    UPDATE kommo.conversations AS c SET
      processed = done.requested, claim_id = NULL, attempts = 0, last_error = NULL, run_after = now(), updated_at = now()
    FROM unnest(
      ${claims.map(({ id }) => id)}::text[], ${claims.map(({ claimId }) => claimId)}::uuid[],
      ${claims.map(({ requested }) => requested)}::bigint[]
    ) AS done (id, claim_id, requested)
    WHERE c.id = done.id AND c.claim_id = done.claim_id
    RETURNING ${withoutWaiting}`
}

/** Gives a claim back: at once when the service stops, later when the channel may not be asked now. */
export async function releaseConversation(
  db: Queryable,
  { id, claimId }: ClaimedConversation,
  lastError: string | null,
): Promise<void> {
  await db.$executeRaw`
    UPDATE kommo.conversations SET
      claim_id = NULL, run_after = now(), last_error = COALESCE(${lastError}, last_error), updated_at = now()
    WHERE id = ${id} AND claim_id = ${claimId}::uuid`
}

/**
 * Puts a failed job off, or to rest: a dead conversation waits for a webhook or an operator.
 * @throws LeaseLostError
 */
export async function failConversation(
  db: Queryable,
  { id, claimId }: ClaimedConversation,
  { message, retryInMs }: { message: string; retryInMs: number | null },
): Promise<void> {
  const updated = await db.$executeRaw`
    UPDATE kommo.conversations SET
      claim_id = NULL, attempts = attempts + 1, last_error = ${message},
      dead_at = CASE WHEN ${retryInMs}::float8 IS NULL THEN now() END,
      run_after = now() + COALESCE(${retryInMs}::float8, 0) * interval '1 ms', updated_at = now()
    WHERE id = ${id} AND claim_id = ${claimId}::uuid`
  if (updated === 0) throw new LeaseLostError(id)
}

export interface SyncCall {
  conversationId: string
  /** Needed only for a conversation that is not known yet. */
  scopeId: string | null
  /** Walk to the oldest message even where everything is known. */
  full: boolean
  /** Share the reads that are due anyway, once a second, however often somebody calls; else read at once. */
  patient: boolean
}

/**
 * An operator's call for a sync: counts like a webhook's, revives a dead conversation and does not wait for a back-off.
 * @returns false when the conversation is unknown and no scope was given.
 */
export async function callForSync(
  db: Queryable,
  { conversationId, scopeId, full, patient }: SyncCall,
): Promise<boolean> {
  const updated = await db.$executeRaw`
    WITH called AS (
      INSERT INTO kommo.conversations AS c (id, scope_id, requested, full_walk_request)
      SELECT ${conversationId}, scope_id, 1, CASE WHEN ${full} THEN 1 END
      FROM (
        SELECT COALESCE(
          (SELECT scope_id FROM kommo.conversations WHERE id = ${conversationId}), ${scopeId}::text) AS scope_id
      ) AS known WHERE scope_id IS NOT NULL
      ON CONFLICT (id) DO UPDATE SET
        requested = c.requested + 1,
        full_walk_request = CASE WHEN ${full} THEN c.requested + 1 ELSE c.full_walk_request END,
        run_after = CASE
          WHEN c.claim_id IS NOT NULL THEN c.run_after
          WHEN NOT ${patient} THEN now()
          WHEN c.attempts > 0 OR c.dead_at IS NOT NULL
            THEN GREATEST(now(), c.updated_at + ${READ_INTERVAL_MS}::int * interval '1 ms')
          ELSE GREATEST(now(), c.run_after) END,
        attempts = 0, dead_at = NULL, updated_at = now()
      RETURNING pg_notify('kommo_sync', '')
    ) SELECT FROM called`
  return updated > 0
}
