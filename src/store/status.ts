import type { WebhookKind } from '../domain/webhook.ts'
import type { Queryable } from './connection/queryable.ts'

export interface SyncStatus {
  conversations: {
    total: number
    complete: number
    behind: number
    failing: number
    dead: number
    /** The one that has been behind for longest. */
    oldestBehind: { id: string; since: Date } | null
  }
  messages: {
    total: number
    withMedia: number
    /** Marked as gone from Kommo. */
    missing: number
    /** Earlier wordings. */
    revisions: number
    /** Those of the numbers above that are estimates, because counting takes seconds. */
    estimated: string[]
  }
  webhooks: { kind: WebhookKind; total: number; pending: number; failed: number }[]
  /** Whether the totals of `webhooks` are estimates. */
  webhooksEstimated: boolean
  /** When the oldest webhook that waits to be applied arrived. */
  oldestWaiting: Date | null
  /** The latest twenty. */
  failing: { id: string; attempts: number; lastError: string | null; deadAt: Date | null; runAfter: Date }[]
  /** Every channel that was ever asked. */
  channels: {
    channelId: string
    /** `null` while it may be asked. */
    blockedUntil: Date | null
    reason: string | null
    /** How far ahead requests are reserved. */
    queuedMs: number
  }[]
  /** Processes seen within the last minute. */
  replicas: { id: string; role: string; startedAt: Date; seenAt: Date }[]
  /** By the database's clock, which dates all of the above. */
  at: Date
}

/** A table with more rows than this is not counted. */
const COUNTED_ROWS = 100_000

export async function readStatus(db: Queryable): Promise<SyncStatus> {
  const [conversations] = await db.$queryRaw<Omit<SyncStatus['conversations'], 'oldestBehind'>[]>`
    SELECT count(*)::float8 AS total,
      (count(*) FILTER (WHERE history_complete))::float8 AS complete,
      (count(*) FILTER (WHERE requested > processed AND dead_at IS NULL))::float8 AS behind,
      (count(*) FILTER (WHERE attempts > 0 AND dead_at IS NULL))::float8 AS failing,
      (count(*) FILTER (WHERE dead_at IS NOT NULL))::float8 AS dead
    FROM kommo.conversations`
  if (conversations === undefined) throw new Error('unreachable: aggregates return one row')
  const failing = await db.$queryRaw<SyncStatus['failing']>`
    SELECT id, attempts, last_error AS "lastError", dead_at AS "deadAt", run_after AS "runAfter"
    FROM kommo.conversations WHERE attempts > 0 OR dead_at IS NOT NULL ORDER BY updated_at DESC LIMIT 20`
  const channels = await db.$queryRaw<SyncStatus['channels']>`
    SELECT channel_id AS "channelId", CASE WHEN blocked_until > now() THEN blocked_until END AS "blockedUntil",
      CASE WHEN blocked_until > now() THEN blocked_reason END AS reason,
      GREATEST(0, extract(epoch FROM next_request_at - now()) * 1000)::float8 AS "queuedMs"
    FROM kommo.rate_limits ORDER BY channel_id`
  const replicas = await db.$queryRaw<SyncStatus['replicas']>`
    SELECT id::text, role, started_at AS "startedAt", seen_at AS "seenAt" FROM kommo.replicas
    WHERE seen_at > now() - interval '1 min' ORDER BY started_at, id`
  const [clock] = await db.$queryRaw<{ at: Date; oldestWaiting: Date | null }[]>`
    SELECT now() AS at, (
      SELECT received_at FROM kommo.webhook_events WHERE processed_at IS NULL ORDER BY id LIMIT 1
    ) AS "oldestWaiting"`
  if (clock === undefined) throw new Error('unreachable: the statement returns one row')
  return {
    conversations: { ...conversations, oldestBehind: await readOldestBehind(db) },
    messages: await readMessages(db),
    ...(await readWebhooks(db)),
    oldestWaiting: clock.oldestWaiting,
    failing,
    channels,
    replicas,
    at: clock.at,
  }
}

/** Since the oldest webhook that no completed walk answers; without one, since the call was due or last tried. */
async function readOldestBehind(db: Queryable): Promise<SyncStatus['conversations']['oldestBehind']> {
  const [oldest] = await db.$queryRaw<{ id: string; since: Date }[]>`
    SELECT c.id, COALESCE(
      (SELECT min(e.received_at) FROM kommo.webhook_events AS e
       WHERE e.conversation_id = c.id AND e.sync_request > c.processed),
      LEAST(c.run_after, c.updated_at)) AS since
    FROM kommo.conversations AS c WHERE requested > processed AND dead_at IS NULL ORDER BY since, id LIMIT 1`
  return oldest ?? null
}

async function readMessages(db: Queryable): Promise<SyncStatus['messages']> {
  const estimates = await estimateRows(db, ['messages', 'media', 'message_revisions'])
  const estimated: string[] = []
  const count = async (name: string, table: string, counted: () => Promise<{ rows: number }[]>) => {
    const estimate = estimates.get(table)
    if (estimate === undefined) return (await counted())[0]?.rows ?? 0
    estimated.push(name)
    return estimate
  }
  const total = await count('total', 'messages', () => {
    return db.$queryRaw`SELECT count(*)::float8 AS rows FROM kommo.messages`
  })
  const withMedia = await count('withMedia', 'media', () => {
    return db.$queryRaw`SELECT count(*)::float8 AS rows FROM kommo.media`
  })
  const revisions = await count('revisions', 'message_revisions', () => {
    return db.$queryRaw`SELECT count(*)::float8 AS rows FROM kommo.message_revisions`
  })
  const [gone] = await db.$queryRaw<{ missing: number }[]>`
    SELECT count(*)::float8 AS missing FROM kommo.messages WHERE missing_since IS NOT NULL`
  return { total, withMedia, missing: gone?.missing ?? 0, revisions, estimated }
}

type Webhooks = Pick<SyncStatus, 'webhooks' | 'webhooksEstimated'>

async function readWebhooks(db: Queryable): Promise<Webhooks> {
  const estimate = (await estimateRows(db, ['webhook_events'])).get('webhook_events')
  // What is waiting and what failed is counted in any case: both are few, and have an index.
  const rows = await db.$queryRaw<{ kind: WebhookKind; pending: number; failed: number }[]>`
    SELECT kind, sum(pending)::float8 AS pending, sum(failed)::float8 AS failed FROM (
      SELECT kind, count(*) AS pending, 0 AS failed FROM kommo.webhook_events WHERE processed_at IS NULL GROUP BY kind
      UNION ALL
      SELECT kind, 0, count(*) FROM kommo.webhook_events WHERE error IS NOT NULL GROUP BY kind
    ) AS counted GROUP BY kind`
  const totals =
    estimate === undefined
      ? await db.$queryRaw<{ kind: WebhookKind; total: number }[]>`
          SELECT kind, count(*)::float8 AS total FROM kommo.webhook_events GROUP BY kind ORDER BY kind`
      : await db.$queryRaw<{ kind: WebhookKind; total: number }[]>`
          SELECT kind, round(${estimate}::float8 * share)::float8 AS total
          FROM pg_stats, unnest(most_common_vals::text::kommo.webhook_kind[], most_common_freqs) AS t (kind, share)
          WHERE schemaname = 'kommo' AND tablename = 'webhook_events' AND attname = 'kind' ORDER BY kind`
  const known = new Set(totals.map(({ kind }) => kind))
  const rare = rows.filter(({ kind }) => !known.has(kind))
  return {
    webhooksEstimated: estimate !== undefined,
    webhooks: [
      ...totals,
      // Too few for the estimate to show them.
      ...rare.map(({ kind, pending, failed }) => ({ kind, total: Math.max(pending, failed) })),
    ].map(({ kind, total }) => {
      const few = rows.find((row) => row.kind === kind)
      return { kind, total, pending: few?.pending ?? 0, failed: few?.failed ?? 0 }
    }),
  }
}

/** About how many rows the large ones of these tables have, from the database's own statistics. */
async function estimateRows(db: Queryable, tables: readonly string[]): Promise<Map<string, number>> {
  const rows = await db.$queryRaw<{ name: string; rows: number }[]>`
    SELECT relname AS name, reltuples::float8 AS rows FROM pg_class
    WHERE relnamespace = 'kommo'::regnamespace AND relname = ANY(${tables}::text[])
      AND reltuples > ${COUNTED_ROWS}::float8`
  return new Map(rows.map(({ name, rows: count }) => [name, count]))
}
