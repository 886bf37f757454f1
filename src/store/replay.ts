import { type InboxWebhook, type WebhookKind, callsForSync, carriesContent } from '../domain/webhook.ts'
import { CALL } from './call.ts'
import { Prisma } from './generated/client.ts'
import type { Queryable } from './connection/queryable.ts'

/** Which webhooks to take again; what is empty or `null` does not narrow. */
export interface ReplaySelection {
  ids: readonly bigint[]
  since: Date | null
  until: Date | null
  kinds: readonly WebhookKind[]
  failedOnly: boolean
}

export interface SelectedEvents {
  kinds: { kind: WebhookKind; total: number; failed: number }[]
  /** Bounds of their ids; what arrives later is not selected. `null`: none is selected. */
  firstId: bigint | null
  lastId: bigint | null
}

export async function countSelectedEvents(
  db: Queryable,
  selection: ReplaySelection,
): Promise<SelectedEvents> {
  const rows = await db.$queryRaw<
    { kind: WebhookKind; total: number; failed: number; firstId: bigint; lastId: bigint }[]
  >`
    SELECT kind, count(*)::float8 AS total, (count(*) FILTER (WHERE error IS NOT NULL))::float8 AS failed,
      min(id) AS "firstId", max(id) AS "lastId"
    FROM kommo.webhook_events WHERE ${matching(selection)} GROUP BY kind ORDER BY kind`
  return {
    kinds: rows.map(({ kind, total, failed }) => ({ kind, total, failed })),
    firstId: rows.reduce<bigint | null>((first, row) => lower(first, row.firstId), null),
    lastId: rows.reduce<bigint | null>((last, row) => higher(last, row.lastId), null),
  }
}

/** Ids that are in the inbox no more, or never were. */
export async function findUnknownEvents(db: Queryable, ids: readonly bigint[]): Promise<bigint[]> {
  const rows = await db.$queryRaw<{ id: bigint }[]>`
    SELECT DISTINCT asked.id FROM unnest(${ids}::bigint[]) AS asked (id)
    WHERE NOT EXISTS (SELECT FROM kommo.webhook_events AS e WHERE e.id = asked.id) ORDER BY asked.id`
  return rows.map(({ id }) => id)
}

/** A webhook as it was kept: what it is taken for is decided anew. */
export interface StoredEvent extends Pick<InboxWebhook, 'scopeId' | 'body' | 'receiptId' | 'receivedAt'> {
  id: bigint
}

/** Bodies are up to 1 MiB; a batch of the usual ones is far below this. */
const BATCH = { events: 500, bytes: 8 * 1024 * 1024 }

/** The next selected webhooks, in order of arrival: a bounded number, and of bytes. */
export async function readSelectedEvents(
  db: Queryable,
  selection: ReplaySelection,
  { afterId, lastId }: { afterId: bigint; lastId: bigint },
): Promise<StoredEvent[]> {
  return db.$queryRaw<StoredEvent[]>`
    WITH candidates AS (
      SELECT id, octet_length(body) AS bytes FROM kommo.webhook_events
      WHERE ${matching(selection)} AND id > ${afterId} AND id <= ${lastId}
      ORDER BY id LIMIT ${BATCH.events}::int
    ), sized AS (
      SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM candidates
    )
    SELECT e.id, e.scope_id AS "scopeId", e.body, e.received_at AS "receivedAt",
      -- The oldest have none.
      COALESCE(e.receipt_id, gen_random_uuid())::text AS "receiptId"
    FROM sized JOIN kommo.webhook_events AS e USING (id)
    WHERE bytes_before < ${BATCH.bytes}::int ORDER BY e.id`
}

export interface ReplayedWebhook extends InboxWebhook {
  id: bigint
}

/**
 * Takes stored webhooks as if they came now, in one statement: what they are is written again, messages wait for the
 * applier, and each call for a sync gets a new number behind those that its conversation knows. The old number is
 * then nobody's, so a claim cannot take it for answered: at worst the history is read once more.
 *
 * Unlike a new webhook (`recordWebhooks`) an old one never overwrites what is known of the conversation.
 */
export async function replayWebhooks(db: Queryable, webhooks: readonly ReplayedWebhook[]): Promise<void> {
  await db.$executeRaw`
    WITH input AS MATERIALIZED (
      SELECT * FROM unnest(
        ${webhooks.map((w) => w.id)}::bigint[], ${webhooks.map((w) => w.scopeId)}::text[],
        ${webhooks.map((w) => w.kind)}::text[], ${webhooks.map((w) => w.conversationId)}::text[],
        ${webhooks.map((w) => w.conversationClientId)}::text[], ${webhooks.map((w) => w.messageId)}::text[],
        ${webhooks.map((w) => w.sentAt)}::timestamptz[], ${webhooks.map((w) => w.error)}::text[],
        ${webhooks.map(callsForSync)}::bool[], ${webhooks.map(carriesContent)}::bool[]
      ) AS t (id, scope_id, kind, conversation_id, client_id, message_id, sent_at, error, calls, pending)
    ), kept AS MATERIALIZED (
      -- The retention may have deleted some since they were read; who holds no row makes no call.
      SELECT input.* FROM input JOIN kommo.webhook_events AS e ON e.id = input.id ORDER BY e.id FOR UPDATE OF e
    ), called AS (
      INSERT INTO kommo.conversations AS c (id, scope_id, client_id, last_message_at, requested, run_after)
      SELECT conversation_id, max(scope_id), max(client_id), max(sent_at), count(*), now()
      FROM kept WHERE calls GROUP BY conversation_id ORDER BY conversation_id
      ON CONFLICT (id) DO UPDATE SET
        client_id = COALESCE(c.client_id, excluded.client_id),
        last_message_at = GREATEST(c.last_message_at, excluded.last_message_at),
        ${CALL}
      RETURNING id, requested
    ), numbered AS (
      SELECT kept.*, row_number() OVER same_conversation - count(*) OVER (PARTITION BY conversation_id, calls) AS ahead
      FROM kept WINDOW same_conversation AS (PARTITION BY conversation_id, calls ORDER BY id)
    ), replayed AS (
      UPDATE kommo.webhook_events AS e SET
        scope_id = n.scope_id, kind = n.kind::kommo.webhook_kind, conversation_id = n.conversation_id,
        message_id = n.message_id, sync_request = called.requested + n.ahead, error = n.error,
        processed_at = CASE WHEN n.pending THEN NULL ELSE now() END
      FROM numbered AS n LEFT JOIN called ON n.calls AND called.id = n.conversation_id
      WHERE e.id = n.id
      RETURNING 1
    )
    SELECT pg_notify('kommo_sync', '') FROM (SELECT count(*) FROM replayed) AS written`
}

/** How many webhooks with ids in this range wait to be worked into the tables. */
export async function countPendingEvents(db: Queryable, firstId: bigint, lastId: bigint): Promise<number> {
  const [row] = await db.$queryRaw<{ pending: number }[]>`
    SELECT count(*)::float8 AS pending FROM kommo.webhook_events
    WHERE processed_at IS NULL AND id BETWEEN ${firstId} AND ${lastId}`
  return row?.pending ?? 0
}

export interface FailedEvent {
  id: bigint
  kind: WebhookKind
  error: string
}

/** Those of the given webhooks from which nothing could be stored. */
export async function readFailedEvents(db: Queryable, ids: readonly bigint[]): Promise<FailedEvent[]> {
  return db.$queryRaw<FailedEvent[]>`
    SELECT id, kind, error FROM kommo.webhook_events WHERE id = ANY(${ids}::bigint[]) AND error IS NOT NULL ORDER BY id`
}

export async function countDeadConversations(db: Queryable): Promise<number> {
  const [row] = await db.$queryRaw<{ dead: number }[]>`
    SELECT count(*)::float8 AS dead FROM kommo.conversations WHERE dead_at IS NOT NULL`
  return row?.dead ?? 0
}

/** Makes dead conversations due again, a bounded number at a time. @returns their ids, in order */
export async function reviveDeadConversations(
  db: Queryable,
  afterId: string,
  limit: number,
): Promise<string[]> {
  const rows = await db.$queryRaw<{ id: string }[]>`
    WITH dead AS (
      SELECT id FROM kommo.conversations WHERE dead_at IS NOT NULL AND id > ${afterId} ORDER BY id
      LIMIT ${limit}::int FOR UPDATE
    ), revived AS (
      UPDATE kommo.conversations AS c SET
        attempts = 0, dead_at = NULL, run_after = now(), updated_at = now(),
        requested = GREATEST(c.requested, c.processed + 1)
      FROM dead WHERE c.id = dead.id RETURNING c.id
    )
    SELECT id FROM revived, (SELECT pg_notify('kommo_sync', '')) AS told ORDER BY id`
  return rows.map(({ id }) => id)
}

export interface RevivedConversations {
  /** Not tried yet, and their channel may be asked. */
  open: number
  unread: { id: string; lastError: string | null }[]
}

/** How revived conversations fare: read, or tried once in vain, or waiting for a channel that may not be asked. */
export async function readRevivedConversations(
  db: Queryable,
  ids: readonly string[],
): Promise<RevivedConversations> {
  const unread = await db.$queryRaw<{ id: string; lastError: string | null; open: boolean }[]>`
    SELECT id, last_error AS "lastError", dead_at IS NULL AND attempts = 0 AND NOT EXISTS (
      SELECT FROM kommo.rate_limits AS r
      WHERE r.channel_id = split_part(c.scope_id, '_', 1) AND r.blocked_until > now()) AS open
    FROM kommo.conversations AS c
    WHERE id = ANY(${ids}::text[]) AND (requested > processed OR dead_at IS NOT NULL) ORDER BY id`
  return {
    open: unread.filter(({ open }) => open).length,
    unread: unread.map(({ id, lastError }) => ({ id, lastError })),
  }
}

function matching({ ids, since, until, kinds, failedOnly }: ReplaySelection): Prisma.Sql {
  const conditions = [Prisma.sql`true`]
  if (ids.length > 0) conditions.push(Prisma.sql`id = ANY(${ids}::bigint[])`)
  if (since !== null) conditions.push(Prisma.sql`received_at >= ${since}::timestamptz`)
  if (until !== null) conditions.push(Prisma.sql`received_at < ${until}::timestamptz`)
  if (kinds.length > 0) conditions.push(Prisma.sql`kind::text = ANY(${kinds}::text[])`)
  if (failedOnly) conditions.push(Prisma.sql`error IS NOT NULL`)
  return Prisma.join(conditions, ' AND ')
}

function lower(a: bigint | null, b: bigint): bigint {
  return a === null || b < a ? b : a
}

function higher(a: bigint | null, b: bigint): bigint {
  return a === null || b > a ? b : a
}
