import { table } from '../commands/output.ts'
import type { SimulatedKommo } from '../simulated-kommo/simulated-kommo.ts'
import type { Database } from '../store/connection/database.ts'
import type { Sent } from './scenario.ts'

/** Shows what went in and what the tables hold, with the queries that anybody may run. */
export async function report(
  { pool }: Database,
  kommo: SimulatedKommo,
  sent: readonly Sent[],
  say: (text: string) => unknown,
): Promise<void> {
  say('\nWhat went in: signed webhooks\n')
  say(table([['webhook', 'sent', 'answer'], ...sent.map((s) => [s.what, s.count, s.answer ?? 'none'])]))

  say('\nConversations: whole, although webhooks told of a message or two\n')
  say(
    await show(
      `SELECT left(c.id, 8) || '…' AS conversation, p.name AS client,
         count(m.id)::int AS messages,
         (count(m.id) FILTER (WHERE m.direction = 'incoming'))::int AS "from client",
         count(d.message_id)::int AS "with media",
         to_char(max(m.sent_at), 'YYYY-MM-DD HH24:MI') AS "last message"
       FROM kommo.conversations c
       JOIN kommo.messages m ON m.conversation_id = c.id
       LEFT JOIN kommo.media d ON d.message_id = m.id
       LEFT JOIN LATERAL (
         SELECT name FROM kommo.participants
         WHERE id = (SELECT COALESCE(x.receiver_id, x.sender_id) FROM kommo.messages x
                     WHERE x.conversation_id = c.id ORDER BY x.sent_at DESC LIMIT 1)) p ON true
       GROUP BY c.id, p.name ORDER BY messages`,
    ),
  )

  say('\nThe end of the longest one\n')
  say(
    await show(
      `SELECT to_char(sent_at, 'MM-DD HH24:MI:SS') AS time, who, text, media FROM (
         SELECT m.sent_at, COALESCE(p.name, m.direction::text) AS who, left(COALESCE(m.text, ''), 44) AS text,
           COALESCE(d.type || ' ' || COALESCE(d.file_name, ''), '') AS media
         FROM kommo.messages m
         LEFT JOIN kommo.participants p ON p.id = m.sender_id
         LEFT JOIN kommo.media d ON d.message_id = m.id
         WHERE m.conversation_id = (
           SELECT conversation_id FROM kommo.messages GROUP BY 1 ORDER BY count(*) DESC LIMIT 1)
         ORDER BY m.sent_at DESC LIMIT 8) AS latest
       ORDER BY sent_at`,
    ),
  )

  say('\nSync state\n')
  say(
    await show(
      `SELECT left(id, 8) || '…' AS conversation, requested::int, processed::int,
         history_complete AS complete, to_char(synced_at, 'HH24:MI:SS') AS synced
       FROM kommo.conversations ORDER BY requested DESC, id`,
    ),
  )
  const { historyRequests } = kommo.stats.snapshot()
  say(`  ${historyRequests} history requests, at most ${kommo.stats.peakPerSecond()} in any second\n`)

  async function show(sql: string): Promise<string> {
    const { rows, fields } = await pool.query<Record<string, unknown>>(sql)
    const cells = rows.map((row) => fields.map(({ name }) => cellOf(row[name])))
    return table([fields.map(({ name }) => name), ...cells])
  }
}

function cellOf(value: unknown): string | number {
  if (typeof value === 'number') return value
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  return typeof value === 'string' ? value : '–'
}
