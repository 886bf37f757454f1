import { type InboxWebhook, type WebhookKind, callsForSync, carriesContent } from '../domain/webhook.ts'
import { Prisma } from './generated/client.ts'
import { CALL, SETTLE_MS } from './call.ts'
import { WEBHOOKS } from './connection/listen.ts'
import type { Queryable } from './connection/queryable.ts'

/**
 * The one durable write of the receiver: every webhook becomes a row of the inbox, every call for a sync adds one to
 * its conversation, in one statement and one commit. Sorted by key, so that two batches never deadlock.
 *
 * A webhook whose receipt is stored already is passed over whole, row and call: drains and retries can run twice. Two
 * that record one receipt at the same moment: the second fails with a unique violation, and finds it when it tries again.
 * Asked with one array and not with an anti join, which made a batch of 200 a fifth slower (measured).
 *
 * One NOTIFY a batch: it is sent at commit, and one for each transaction would halve the commits a second (measured,
 * docs/design.md).
 */
export async function recordWebhooks(db: Queryable, webhooks: readonly InboxWebhook[]): Promise<void> {
  await db.$executeRaw`
WITH input AS MATERIALIZED (
  SELECT * FROM unnest(
    ${webhooks.map((w) => w.scopeId)}::text[],
    ${webhooks.map((w) => w.kind)}::text[],
    ${webhooks.map((w) => w.conversationId)}::text[],
    ${webhooks.map((w) => w.conversationClientId)}::text[],
    ${webhooks.map((w) => w.messageId)}::text[],
    ${webhooks.map((w) => w.sentAt)}::timestamptz[],
    ${webhooks.map((w) => w.body)}::bytea[],
    ${webhooks.map((w) => w.error)}::text[],
    ${webhooks.map(callsForSync)}::bool[],
    ${webhooks.map(carriesContent)}::bool[],
    ${webhooks.map((w) => w.receiptId)}::uuid[],
    ${webhooks.map((w) => w.receivedAt)}::timestamptz[]
  ) WITH ORDINALITY AS t (
    scope_id, kind, conversation_id, client_id, message_id, sent_at, body, error, calls, pending, receipt_id, received_at, position
  )
  WHERE receipt_id <> ALL (ARRAY(
    SELECT e.receipt_id FROM kommo.webhook_events e
    WHERE e.receipt_id = ANY (${webhooks.map((w) => w.receiptId)}::uuid[])
  ))
), called AS (
  INSERT INTO kommo.conversations AS c (id, scope_id, client_id, last_message_at, requested, run_after)
  SELECT conversation_id, max(scope_id), max(client_id), max(sent_at), count(*), now() + ${SETTLE_MS}::int * interval '1 ms'
  FROM input WHERE calls GROUP BY conversation_id ORDER BY conversation_id
  ON CONFLICT (id) DO UPDATE SET
    scope_id = excluded.scope_id,
    client_id = COALESCE(excluded.client_id, c.client_id),
    last_message_at = GREATEST(c.last_message_at, excluded.last_message_at),
    ${CALL}
  RETURNING id, requested
), numbered AS (
  SELECT input.*, row_number() OVER same_conversation - count(*) OVER (PARTITION BY conversation_id, calls) AS ahead
  FROM input WINDOW same_conversation AS (PARTITION BY conversation_id, calls ORDER BY position)
), recorded AS (
  INSERT INTO kommo.webhook_events (
    scope_id, kind, conversation_id, message_id, sync_request, body, error, processed_at, receipt_id, received_at
  )
  SELECT
    n.scope_id, n.kind::kommo.webhook_kind, n.conversation_id, n.message_id, called.requested + n.ahead, n.body, n.error,
    CASE WHEN n.pending THEN NULL ELSE now() END, n.receipt_id, LEAST(n.received_at, now())
  FROM numbered n LEFT JOIN called ON n.calls AND called.id = n.conversation_id
  ORDER BY n.position
  RETURNING 1
)
SELECT pg_notify('kommo_sync', ${WEBHOOKS}) FROM (SELECT count(*) FROM recorded) AS written`
}

export interface PendingWebhookEvent {
  id: bigint
  kind: WebhookKind
  scopeId: string
  conversationId: string
  body: Uint8Array
  receivedAt: Date
}

/** The oldest webhooks that are to be worked into the tables. */
export async function readPendingWebhookEvents(db: Queryable, limit: number): Promise<PendingWebhookEvent[]> {
  return db.$queryRaw<PendingWebhookEvent[]>`
     SELECT id, kind, scope_id AS "scopeId", conversation_id AS "conversationId", body, received_at AS "receivedAt"
     FROM kommo.webhook_events WHERE processed_at IS NULL ORDER BY id LIMIT ${limit}::int`
}

/** Those of the webhooks, locked, that no other worker has worked in or is about to. */
export function heldWebhookEvents(ids: readonly bigint[]): Prisma.Sql {
  return Prisma.sql`
    SELECT id FROM kommo.webhook_events WHERE id = ANY (${ids}::bigint[]) AND processed_at IS NULL
    ORDER BY id FOR UPDATE SKIP LOCKED`
}

export interface WebhookOutcome {
  id: bigint
  /** Why nothing could be stored from the webhook. */
  error: string | null
}

/** Marks webhooks that are `held` as handled. */
export function settlement(outcomes: readonly WebhookOutcome[]): Prisma.Sql {
  return Prisma.sql`
    UPDATE kommo.webhook_events AS e SET processed_at = now(), error = outcome.error
    FROM held JOIN unnest(${outcomes.map(({ id }) => id)}::bigint[], ${outcomes.map(({ error }) => error)}::text[])
      AS outcome (id, error) ON outcome.id = held.id
    WHERE e.id = held.id`
}

/**
 * Deletes processed webhooks older than the retention, a bounded number at a time. Those with an error stay: a later
 * version may understand them.
 */
export async function deleteOldWebhookEvents(
  db: Queryable,
  retentionDays: number,
  limit: number,
): Promise<number> {
  return db.$executeRaw`
    DELETE FROM kommo.webhook_events WHERE id IN (
      SELECT id FROM kommo.webhook_events
      WHERE processed_at < now() - make_interval(days => ${retentionDays}::int) AND error IS NULL
      ORDER BY id LIMIT ${limit}::int)`
}
