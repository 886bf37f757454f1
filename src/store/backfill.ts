import type { Queryable } from './connection/queryable.ts'

/** Asks for a whole walk of every known conversation. @returns how many */
export async function callForAllHistories(db: Queryable): Promise<number> {
  return db.$executeRaw`
    UPDATE kommo.conversations SET
      requested = requested + 1, full_walk_request = requested + 1, attempts = 0, dead_at = NULL,
      run_after = CASE WHEN claim_id IS NULL THEN now() ELSE run_after END, updated_at = now()`
}

export interface BackfillProgress {
  /** Conversations whose whole walk is not done, and that are not given up. */
  open: number
  dead: { id: string; lastError: string | null }[]
  /** Messages behind the checkpoints of the walks under way. */
  walked: number
}

/** @param ids `null` for every known conversation */
export async function readBackfillProgress(
  db: Queryable,
  ids: readonly string[] | null,
): Promise<BackfillProgress> {
  const [counts] = await db.$queryRaw<{ open: number; walked: number }[]>`
    SELECT (count(*) FILTER (WHERE full_walk_request > processed AND dead_at IS NULL))::float8 AS open,
      COALESCE(sum(walk_offset), 0)::float8 AS walked
    FROM kommo.conversations WHERE ${ids}::text[] IS NULL OR id = ANY(${ids}::text[])`
  const dead = await db.$queryRaw<BackfillProgress['dead']>`
    SELECT id, last_error AS "lastError" FROM kommo.conversations
    WHERE dead_at IS NOT NULL AND (${ids}::text[] IS NULL OR id = ANY(${ids}::text[])) ORDER BY id`
  return { open: counts?.open ?? 0, dead, walked: counts?.walked ?? 0 }
}

/** The scope that all known conversations share; `null` when there is none, or more than one. */
export async function onlyKnownScope(db: Queryable): Promise<string | null> {
  const rows = await db.$queryRaw<{ scopeId: string }[]>`
    SELECT DISTINCT scope_id AS "scopeId" FROM kommo.conversations LIMIT 2`
  return rows.length === 1 ? (rows[0]?.scopeId ?? null) : null
}

/** The scopes that conversations are known in, at most one for each channel: what a trial request can be made with. */
export async function scopeOfEachChannel(db: Queryable): Promise<string[]> {
  const rows = await db.$queryRaw<{ scopeId: string }[]>`
    SELECT DISTINCT ON (split_part(scope_id, '_', 1)) scope_id AS "scopeId" FROM kommo.conversations`
  return rows.map(({ scopeId }) => scopeId)
}
