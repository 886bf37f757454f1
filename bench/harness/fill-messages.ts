import type { Database } from '../../src/store/connection/database.ts'

export interface Filling {
  scopeId: string
  messages: number
  /** Number of the first message: rows of another filling are not made again. */
  from: number
}

/** Of so many messages is each conversation; one message in ten has media, one in ten came with a webhook that is kept. */
const EACH = 500
const TENTH = 10

/**
 * Fills the tables as years of service would, except that all of it is invented by the database: indexes and
 * constraints are taken away meanwhile, and made again from their own definitions.
 */
export async function fillMessages({ pool }: Database, { scopeId, messages, from }: Filling): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query(`SET synchronous_commit = off; SET maintenance_work_mem = '1GB';
      -- What triggers would write is written below, in one statement.
      SET session_replication_role = replica`)
    const { rows: constraints } = await client.query<{ drop: string; create: string }>(`
      SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname) AS drop,
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS create
      FROM pg_constraint WHERE connamespace = 'kommo'::regnamespace AND contype IN ('p', 'f')
      ORDER BY contype = 'f'`)
    const { rows: indexes } = await client.query<{ drop: string; create: string }>(`
      SELECT format('DROP INDEX %s', indexrelid::regclass) AS drop, pg_get_indexdef(indexrelid) AS create
      FROM pg_index WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'kommo'::regnamespace)
        AND NOT indisprimary`)
    for (const { drop } of [...constraints.toReversed(), ...indexes]) await client.query(drop)

    const values = [scopeId, from, from + messages]
    // The conversation in which another filling ended is there already.
    const first = from === 0 ? 0 : Math.floor((from - 1) / EACH) + 1
    const perConversation = [scopeId, first, Math.floor((from + messages - 1) / EACH)]
    await client.query(
      `INSERT INTO kommo.conversations (id, scope_id, client_id, requested, processed, history_complete,
        walks_completed, synced_at, last_message_at, read_again_at)
       SELECT md5('conversation ' || n)::uuid::text, $1, 'conv-' || n, 20, 20, true, 5, now() - n * interval '1 s',
        now() - n * interval '1 min', now() + interval '10 days' + n * interval '1 s'
       FROM generate_series($2::bigint, $3::bigint) AS n`,
      perConversation,
    )
    await client.query(
      `INSERT INTO kommo.participants (id, scope_id, client_id, name, phone, seen_at)
       SELECT md5('person ' || n)::uuid::text, $1, 'client-' || n, 'Person ' || n, '+4930' || n,
        jsonb_build_object('name', '2026-01-01T00:00:00.000Z', 'phone', '2026-01-01T00:00:00.000Z')
       FROM generate_series($2::bigint, $3::bigint) AS n`,
      perConversation,
    )
    await client.query(
      `INSERT INTO kommo.messages (id, scope_id, conversation_id, client_id, sender_id, direction, type, text, sent_at,
        extra, observed_at, first_walk)
       SELECT md5('message ' || n)::uuid::text, $1, md5('conversation ' || n / ${EACH})::uuid::text, 'msg-' || n,
        md5('person ' || n / ${EACH})::uuid::text, CASE WHEN n % 2 = 0 THEN 'incoming' ELSE 'outgoing' END::kommo.direction,
        'text', repeat('A sentence of some length. ', (n % 6)::int + 1), now() - n * interval '10 s', '{}', now(), 1
       FROM generate_series($2::bigint, $3::bigint - 1) AS n`,
      values,
    )
    await client.query(
      `INSERT INTO kommo.conversation_clients (conversation_id, participant_id)
       SELECT md5('conversation ' || n)::uuid::text, md5('person ' || n)::uuid::text
       FROM generate_series($1::bigint, $2::bigint) AS n`,
      perConversation.slice(1),
    )
    await client.query(
      `INSERT INTO kommo.media (message_id, type, url, file_name, file_size, observed_at)
       SELECT md5('message ' || n)::uuid::text, 'picture', 'https://media.example/' || md5(n::text), n || '.jpg', 100000, now()
       FROM generate_series($1::bigint, $2::bigint - 1, ${TENTH}) AS n`,
      values.slice(1),
    )
    await client.query(
      `INSERT INTO kommo.webhook_events (scope_id, kind, conversation_id, message_id, sync_request, body, processed_at, receipt_id)
       SELECT $1, 'message', md5('conversation ' || n / ${EACH})::uuid::text, md5('message ' || n)::uuid::text, 20,
        convert_to(repeat('{"invented": true} ', 30), 'UTF8'), now(), md5('receipt ' || n)::uuid
       FROM generate_series($2::bigint, $3::bigint - 1, ${TENTH}) AS n`,
      values,
    )
    for (const { create } of [...indexes, ...constraints]) await client.query(create)
  } finally {
    client.release(true)
  }
  await pool.query('VACUUM (ANALYZE)')
  await pool.query('CHECKPOINT')
}
