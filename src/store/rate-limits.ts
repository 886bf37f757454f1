import type { Queryable } from './connection/queryable.ts'

export type RateToken =
  | { kind: 'slot'; waitMs: number; at: Date; refusals: number }
  | { kind: 'blocked'; forMs: number; reason: string | null }

/**
 * Reserves the next moment at which the channel may be asked, for all replicas together. Always reserves, never
 * refuses, except while the channel is blocked (429, wrong secret): then nobody asks.
 *
 * Times are the database's, so replicas with wrong clocks stay in step. The reservation need not survive a crash of
 * the database: it commits without waiting for the disk.
 */
export async function reserveRequest(
  db: Queryable,
  channelId: string,
  spacingMs: number,
): Promise<RateToken> {
  const [row] = await db.$queryRaw<
    { slot: Date; waitMs: number; blockedMs: number | null; reason: string | null; refusals: number }[]
  >`
    INSERT INTO kommo.rate_limits AS r (channel_id, next_request_at)
    VALUES (${channelId}, clock_timestamp() + ${spacingMs}::float8 * interval '1 ms')
    ON CONFLICT (channel_id) DO UPDATE SET next_request_at =
      CASE WHEN r.blocked_until > clock_timestamp() THEN r.next_request_at
      ELSE GREATEST(r.next_request_at, clock_timestamp()) + ${spacingMs}::float8 * interval '1 ms' END
    RETURNING
      next_request_at - ${spacingMs}::float8 * interval '1 ms' AS slot,
      (extract(epoch FROM next_request_at - clock_timestamp()) * 1000 - ${spacingMs}::float8)::float8 AS "waitMs",
      (extract(epoch FROM blocked_until - clock_timestamp()) * 1000)::float8 AS "blockedMs",
      blocked_reason AS reason, refusals,
      set_config('synchronous_commit', 'off', true)`
  if (row === undefined) throw new Error('unreachable: the statement returns one row')
  if (row.blockedMs !== null && row.blockedMs > 0) {
    return { kind: 'blocked', forMs: row.blockedMs, reason: row.reason }
  }
  return { kind: 'slot', waitMs: Math.max(0, row.waitMs), at: row.slot, refusals: row.refusals }
}

/** The database's clock, in milliseconds since 1970. */
export async function readClock(db: Queryable): Promise<number> {
  const [row] = await db.$queryRaw<{ ms: number }[]>`
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms`
  return row?.ms ?? 0
}

/** Milliseconds for which nobody may ask the channel; 0 when it is free. */
export async function channelBlockedForMs(db: Queryable, channelId: string): Promise<number> {
  const [row] = await db.$queryRaw<{ ms: number | null }[]>`
    SELECT (extract(epoch FROM blocked_until - clock_timestamp()) * 1000)::float8 AS ms
    FROM kommo.rate_limits WHERE channel_id = ${channelId}`
  return Math.max(0, row?.ms ?? 0)
}

export interface ChannelPause {
  /** What Kommo asked for; `null`: `firstPauseMs`, doubling with each refusal in a row, up to 15 min. */
  pauseMs: number | null
  firstPauseMs: number
  reason: string
}

/** Keeps everybody from asking the channel for a while. */
export async function blockChannel(
  db: Queryable,
  channelId: string,
  { pauseMs, firstPauseMs, reason }: ChannelPause,
): Promise<void> {
  await db.$executeRaw`
    INSERT INTO kommo.rate_limits AS r (channel_id, blocked_until, blocked_reason, refusals)
    VALUES (${channelId}, now() + ${pauseMs ?? firstPauseMs}::float8 * interval '1 ms', ${reason}, 1)
    ON CONFLICT (channel_id) DO UPDATE SET
      blocked_until = CASE
        WHEN ${pauseMs}::float8 IS NOT NULL
          THEN GREATEST(r.blocked_until, now() + ${pauseMs}::float8 * interval '1 ms')
        -- Requests that were under way together are refused together: that is one refusal, not many.
        WHEN r.blocked_until > now() THEN r.blocked_until
        ELSE now() + LEAST(${firstPauseMs}::float8 * 2 ^ LEAST(r.refusals, 20), 900000) * interval '1 ms' END,
      blocked_reason = excluded.blocked_reason,
      refusals = CASE WHEN r.blocked_until > now() THEN r.refusals ELSE r.refusals + 1 END`
}

/** The channel answered: the next refusal starts from the shortest pause again. */
export async function clearRefusals(db: Queryable, channelId: string): Promise<void> {
  await db.$executeRaw`
    UPDATE kommo.rate_limits SET refusals = 0, blocked_reason = NULL
    WHERE channel_id = ${channelId} AND refusals > 0 AND blocked_until <= now()`
}
