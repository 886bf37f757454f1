import type { Hint } from '../domain/hint.ts'
import { CALL, SETTLE_MS } from './call.ts'
import type { Queryable } from './connection/queryable.ts'

/**
 * Calls for a sync of conversations, as their webhooks would: a call wakes an idle conversation and revives a dead
 * one, but cancels neither a back-off nor the pause between two reads. A conversation of another scope is left alone,
 * and one that is not known too, unless the hint says that it may be new. Sorted by key, so that two never deadlock.
 *
 * @param hints each conversation once
 * @returns how many conversations were called for
 */
export async function callForHints(db: Queryable, hints: readonly Hint[]): Promise<number> {
  const [row] = await db.$queryRaw<{ called: number }[]>`
    WITH input AS (
      SELECT * FROM unnest(
        ${hints.map(({ conversationId }) => conversationId)}::text[], ${hints.map(({ scopeId }) => scopeId)}::text[],
        ${hints.map(({ mayBeNew }) => mayBeNew)}::bool[]
      ) AS t (id, scope_id, may_be_new)
    ), called AS (
      INSERT INTO kommo.conversations AS c (id, scope_id, requested, run_after)
      SELECT id, scope_id, 1, now() + ${SETTLE_MS}::int * interval '1 ms'
      FROM input WHERE may_be_new OR EXISTS (SELECT FROM kommo.conversations AS known WHERE known.id = input.id)
      ORDER BY id
      ON CONFLICT (id) DO UPDATE SET
        ${CALL}
      WHERE c.scope_id = excluded.scope_id
      RETURNING 1
    )
    SELECT count(*)::float8 AS called, CASE WHEN count(*) > 0 THEN pg_notify('kommo_sync', '')::text END AS notified
    FROM called`
  return row?.called ?? 0
}
