import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { generateMessages } from '../../../bench/generated-messages.ts'
import type { Message } from '../../../src/domain/message.ts'
import { storeRecords } from '../../../src/store/records.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { SCOPE, at, participantSeen, recordSeen } from '../../helpers/sighting.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

const MINUTE = 60_000
let ids = 0

async function converse(conversationId: string, ...messages: Partial<Message>[]): Promise<void> {
  await database.pool.query(
    'INSERT INTO kommo.conversations (id, scope_id) VALUES ($1, $2) ON CONFLICT DO NOTHING',
    [conversationId, SCOPE],
  )
  const people = ['ann', 'bob', 'manager'].map((id) =>
    participantSeen({ id, name: id, clientId: `own-${id}` }),
  )
  const records = messages.map((message) =>
    recordSeen({ id: `v-${(ids += 1)}`, conversationId, ...message }, people),
  )
  await storeRecords(database.prisma, records, null)
}

const said = (minute: number, who = 'ann'): Partial<Message> => ({
  senderId: who,
  sentAt: at(minute * MINUTE),
})
const answered = (minute: number, whom = 'ann'): Partial<Message> => ({
  senderId: 'manager',
  receiverId: whom,
  direction: 'outgoing',
  sentAt: at(minute * MINUTE),
})

async function rows(sql: string, ...values: unknown[]): Promise<unknown[]> {
  return (await database.pool.query({ text: sql, values, rowMode: 'array' })).rows
}

describe('response_times', () => {
  const times = (conversation: string) =>
    rows(
      `SELECT extract(epoch FROM response_time)::int / 60, messages::int, opens_conversation, answered_by
       FROM kommo.response_times WHERE conversation_id = $1 ORDER BY asked_at`,
      conversation,
    )

  test('several messages in a row are one, from the first to the first answer', async () => {
    await converse('burst', said(0), said(2), answered(5), answered(6), said(10), said(11), said(12))
    expect(await times('burst')).toEqual([
      [5, 2, true, 'manager'],
      [null, 3, false, null],
    ])
  })

  test('messages of the same millisecond are one row too', async () => {
    await converse('album', said(1), said(1), said(1), answered(3))
    expect(await times('album')).toEqual([[2, 3, true, 'manager']])
  })

  test('a chat that the company began has no row until the client writes', async () => {
    await converse('cold', answered(0), answered(1))
    expect(await times('cold')).toEqual([])
    await converse('cold', said(9), answered(10))
    expect(await times('cold')).toEqual([[1, 1, false, 'manager']])
  })

  test('what Kommo no longer has does not count, and what has no time neither', async () => {
    await converse('gone', said(0), answered(1), said(2), { senderId: 'ann' })
    await database.pool.query(
      `UPDATE kommo.messages SET missing_since = now() WHERE conversation_id = 'gone' AND direction = 'outgoing'`,
    )
    expect(await times('gone')).toEqual([[null, 2, true, null]])
  })
})

describe('conversation_overview', () => {
  const overview = (conversation: string) =>
    rows(
      `SELECT client_id, incoming::int, outgoing::int, waiting_since, sync_state FROM kommo.conversation_overview
       WHERE conversation_id = $1`,
      conversation,
    )

  test('somebody waits since the first message after the last answer', async () => {
    await converse('waits', said(0), answered(1), said(5), said(6))
    expect(await overview('waits')).toEqual([['own-ann', 3, 1, at(5 * MINUTE), 'current']])
    await converse('waits', answered(7))
    expect(await overview('waits')).toEqual([['own-ann', 3, 2, null, 'current']])
  })

  test('a chat without messages is there', async () => {
    await converse('empty')
    expect(await overview('empty')).toEqual([[null, 0, 0, null, 'current']])
  })

  test.each([
    ['behind', 'requested = processed + 1'],
    ['failing', 'attempts = 1'],
    ['dead', 'dead_at = now()'],
  ])('its sync state is %s after %s', async (state, change) => {
    await converse(state, said(0))
    await database.pool.query(`UPDATE kommo.conversations SET ${change} WHERE id = $1`, [state])
    expect(await overview(state)).toEqual([['own-ann', 1, 0, at(0), state]])
  })
})

describe('the client of a conversation', () => {
  const clientOf = async (conversation: string) =>
    (
      await rows(
        'SELECT participant_id FROM kommo.conversation_clients WHERE conversation_id = $1',
        conversation,
      )
    ).flat()

  test('is whom the company wrote to, before they ever answer', async () => {
    await converse('first', answered(0, 'bob'))
    expect(await clientOf('first')).toEqual(['bob'])
  })

  test('is the same whatever the order of arrival', async () => {
    await converse('one', said(0, 'bob'), said(1, 'ann'))
    await converse('two', said(1, 'ann'))
    await converse('two', said(0, 'bob'))
    expect([await clientOf('one'), await clientOf('two')]).toEqual([['ann'], ['ann']])
  })

  test('follows a message that turns out to be the company’s', async () => {
    await converse('turned', { ...said(0, 'manager'), id: 'turning' })
    expect(await clientOf('turned')).toEqual(['manager'])
    await converse('turned', { ...answered(0, 'bob'), id: 'turning', observedAt: at(1) })
    expect(await clientOf('turned')).toEqual(['bob'])
  })

  test('is nobody where no message names one', async () => {
    await converse('nobody', { sentAt: at(0) })
    expect(await clientOf('nobody')).toEqual([])
  })
})

test('daily_activity has days of the time zone of the session', async () => {
  await converse('midnight', { ...said(0), sentAt: new Date('2026-04-02T01:30:00Z') })
  const client = await database.pool.connect()
  try {
    for (const [zone, day] of [
      ['UTC', '2026-04-02'],
      ['America/Sao_Paulo', '2026-04-01'],
    ]) {
      await client.query(`SET TIME ZONE '${zone}'`)
      const { rows: found } = await client.query(
        `SELECT day::text, incoming::int, outgoing::int, conversations::int, clients::int FROM kommo.daily_activity WHERE day < '2026-04-10'`,
      )
      expect(found).toEqual([{ day, incoming: 1, outgoing: 0, conversations: 1, clients: 1 }])
    }
  } finally {
    await client.query('RESET TIME ZONE')
    client.release()
  }
})

describe('sync_health', () => {
  test('is one row, also of empty tables', async () => {
    await using fresh = Object.assign(await createTestDatabase(), {
      [Symbol.asyncDispose]: () => fresh.drop(),
    })
    const { rows: found } = await fresh.pool.query(
      'SELECT behind::int, dead::int, extract(epoch FROM lag)::int AS lag, webhooks_waiting::int FROM kommo.sync_health',
    )
    expect(found).toEqual([{ behind: 0, dead: 0, lag: 0, webhooks_waiting: 0 }])
  })

  test('tells of what is late, and since when', async () => {
    await using late = Object.assign(await createTestDatabase(), { [Symbol.asyncDispose]: () => late.drop() })
    await late.pool.query(`
      INSERT INTO kommo.conversations (id, scope_id, requested, attempts, dead_at) VALUES
        ('behind', 's', 1, 1, NULL), ('dead', 's', 1, 9, now());
      INSERT INTO kommo.webhook_events (kind, conversation_id, sync_request, body, received_at, error) VALUES
        ('message', 'behind', 1, '', now() - interval '1 hour', NULL), ('invalid', NULL, NULL, '', now(), 'invented');
      INSERT INTO kommo.rate_limits (channel_id, blocked_until) VALUES ('c', now() + interval '1 hour')`)
    const { rows: found } = await late.pool.query(
      `SELECT conversations::int, behind::int, failing::int, dead::int, round(extract(epoch FROM lag) / 60)::int AS lag,
         webhooks_waiting::int, oldest_waiting_webhook_at = behind_since AS same, webhooks_with_error::int, channels_blocked::int
       FROM kommo.sync_health`,
    )
    expect(found).toEqual([
      {
        conversations: 2,
        behind: 1,
        failing: 1,
        dead: 1,
        lag: 60,
        webhooks_waiting: 2,
        same: true,
        webhooks_with_error: 1,
        channels_blocked: 1,
      },
    ])
  })
})

describe('among many messages', () => {
  let many: TestDatabase

  beforeAll(async () => {
    many = await createTestDatabase()
    await generateMessages(many.pool, 20_000)
  })
  afterAll(() => many?.drop())

  const BY_CONVERSATION = 'messages_conversation_id_sent_at_id_idx'
  const BY_TIME = 'messages_sent_at_idx'
  const BY_CLIENT = ['participants_client_id_idx', BY_CONVERSATION]

  test.each([
    ['transcript', `WHERE conversation_id = 'conversation-9'`, [BY_CONVERSATION]],
    ['transcript', `WHERE client_id = 'client-9'`, BY_CLIENT],
    ['transcript', `WHERE sent_at >= now() - interval '1 day'`, [BY_TIME]],
    ['transcript', `ORDER BY sent_at DESC LIMIT 50`, [BY_TIME]],
    [
      'conversation_overview',
      `WHERE conversation_id = 'conversation-9'`,
      ['conversations_pkey', BY_CONVERSATION],
    ],
    ['conversation_overview', `WHERE client_id = 'client-9'`, BY_CLIENT],
    ['conversation_overview', `ORDER BY last_message_at DESC LIMIT 5`, ['conversations_last_message_at_idx']],
    ['response_times', `WHERE conversation_id = 'conversation-9'`, [BY_CONVERSATION]],
    ['response_times', `WHERE client_id = 'client-9'`, BY_CLIENT],
    ['response_times', `WHERE asked_at >= now() - interval '1 day'`, [BY_TIME, BY_CONVERSATION]],
    ['response_times', `ORDER BY asked_at DESC LIMIT 50`, [BY_TIME]],
    ['media_overview', `WHERE client_id = 'client-9'`, BY_CLIENT],
    ['media_overview', `WHERE sent_at >= now() - interval '1 day'`, [BY_TIME]],
    ['media_overview', `ORDER BY sent_at DESC LIMIT 5`, [BY_TIME, 'media_pkey']],
    ['daily_activity', `WHERE day >= current_date - 7`, [BY_TIME]],
    ['sync_health', '', ['webhook_events_pending_idx']],
    [`search_messages('бессмыслица')`, '', ['messages_search_idx']],
  ])('kommo.%s %s reads messages by index only', async (view, clause, indexes) => {
    const { rows: lines } = await many.pool.query<[string]>({
      text: `EXPLAIN SELECT * FROM kommo.${view} ${clause}`,
      rowMode: 'array',
    })
    const plan = lines.map(([line]) => line).join('\n')
    for (const index of indexes) expect(plan).toContain(index)
    expect(plan).not.toContain('Seq Scan on messages')
  })
})
