import type { Pool } from 'pg'

/** Ids that a query can name and find something behind: the largest conversation and its client. */
export const GENERATED = { conversationId: 'conversation-0', clientId: 'client-0' }

const SCOPE = 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354_11111111-2222-4333-8444-555555555555'
const DAYS = 730
const MANAGERS = 12

/** The first words come often, the last ones in one message of a hundred. */
const WORDS = [
  'olá bom dia pedido preço entrega prazo obrigado pagamento boleto cartão loja produto promoção',
  'hola buenos días pedido precio envío plazo gracias pago factura tarjeta tienda producto oferta',
  'hello good morning order price delivery when thanks payment invoice card shop product discount',
  'здравствуйте добрый день заказ цена доставка когда спасибо оплата счёт карта магазин товар скидка',
]

/**
 * Fills empty tables as two years of use would: a few long chats and many short ones, each with a lively beginning, in
 * four languages, one message in eight with media; stored in the order of time. The same for the same seed.
 */
export async function generateMessages(pool: Pool, messages: number): Promise<void> {
  const conversations = Math.max(20, Math.round(messages / 50))
  const client = await pool.connect()
  try {
    // Without foreign keys and triggers, and with the search index made at the end: minutes less.
    const { rows } = await client.query<{ definition: string }>(
      `SELECT pg_get_indexdef('kommo.messages_search_idx'::regclass) AS definition`,
    )
    await client.query(`
      SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET session_replication_role = replica;
      DROP INDEX kommo.messages_search_idx; SELECT setseed(0.5)`)
    await client.query(
      `INSERT INTO kommo.conversations (id, scope_id, client_id, history_complete, created_at, requested, processed)
       SELECT 'conversation-' || n, $1, 'chat-' || n, true,
         now() - (random() * $3::int * interval '1 day'), CASE WHEN n % 500 = 7 THEN 2 ELSE 1 END, 1
       FROM generate_series(0, $2::int - 1) AS n`,
      [SCOPE, conversations, DAYS],
    )
    await client.query(
      `INSERT INTO kommo.participants (id, scope_id, client_id, name)
       SELECT 'person-' || n, $1, 'client-' || n, 'Client ' || n FROM generate_series(0, $2::int - 1) AS n
       UNION ALL SELECT 'manager-' || n, $1, NULL, 'Manager ' || n FROM generate_series(0, $3::int - 1) AS n`,
      [SCOPE, conversations, MANAGERS],
    )
    await client.query(
      `INSERT INTO kommo.messages (id, scope_id, conversation_id, sender_id, receiver_id, direction, type, text, sent_at, observed_at)
       SELECT gen_random_uuid(), $1, 'conversation-' || chat,
         CASE WHEN outgoing THEN 'manager-' || chat % $4::int ELSE 'person-' || chat END,
         CASE WHEN outgoing THEN 'person-' || chat END,
         CASE WHEN outgoing THEN 'outgoing' ELSE 'incoming' END::kommo.direction,
         CASE WHEN n % 8 = 0 THEN (ARRAY['picture', 'picture', 'voice', 'file'])[1 + n / 8 % 4] ELSE 'text' END,
         (SELECT string_agg(split_part(words, ' ', 1 + (13.9 * random() ^ 3)::int), ' ')
          FROM generate_series(0, (n / 3 + chat) % 12), (SELECT ($5::text[])[1 + chat % 4] AS words) AS language
         ) || CASE WHEN n % 5 = 0 THEN ' ' || 100000 + n ELSE '' END,
         sent_at, sent_at
       FROM (
         SELECT n, chat, random() < 0.5 AS outgoing,
           date_trunc('milliseconds', c.created_at + random() ^ 4 * LEAST(now() - c.created_at, interval '150 days')) AS sent_at
         FROM (SELECT n, ($3::int * random() ^ 2)::int % $3::int AS chat FROM generate_series(1, $2::int) AS n) AS drawn
         JOIN kommo.conversations AS c ON c.id = 'conversation-' || chat
       ) AS message ORDER BY sent_at`,
      [SCOPE, messages, conversations, MANAGERS, WORDS],
    )
    await client.query(rows[0]?.definition ?? '')
    await client.query(
      `INSERT INTO kommo.conversation_clients (conversation_id, participant_id)
       SELECT 'conversation-' || n, 'person-' || n FROM generate_series(0, $1::int - 1) AS n`,
      [conversations],
    )
    await client.query(
      `INSERT INTO kommo.media (message_id, type, url, file_name, file_size, observed_at)
       SELECT id, type, 'https://files.example/' || id, type || '.bin', 1000 + abs(hashtext(id)) % 5000000, sent_at
       FROM kommo.messages WHERE type <> 'text'`,
    )
    await client.query(
      `INSERT INTO kommo.reaction_states (message_id, participant_id, conversation_id, scope_id, emoji, at, webhook_id)
       SELECT id, sender_id, conversation_id, scope_id, '👍', sent_at, 1
       FROM kommo.messages WHERE hashtext(id) % 200 = 0`,
    )
    await client.query(
      `UPDATE kommo.conversations AS c SET last_message_at = m.last
       FROM (SELECT conversation_id, max(sent_at) AS last FROM kommo.messages GROUP BY 1) AS m WHERE m.conversation_id = c.id`,
    )
    await client.query(
      `INSERT INTO kommo.webhook_events (scope_id, kind, conversation_id, sync_request, body, received_at, processed_at, error)
       SELECT $1, 'message', 'conversation-' || n % $3::int, 1, '{}', now() - n * interval '10 s',
         CASE WHEN n > 50 THEN now() END, CASE WHEN n % 5000 = 0 THEN 'invented' END
       FROM generate_series($2::int / 20, 1, -1) AS n`,
      [SCOPE, messages, conversations],
    )
    await client.query('VACUUM ANALYZE')
  } finally {
    client.release(true)
  }
}
