import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { SignedWebhook } from '../../../src/simulated-kommo/webhooks.ts'
import { freshSeed } from '../../helpers/fresh-seed.ts'
import { type CommandSetup, setUpCommands } from './setup.ts'

let setup: CommandSetup

beforeAll(async () => {
  setup = await setUpCommands()
})
afterAll(() => setup.close())

beforeEach(async () => {
  await setup.sql(
    'TRUNCATE kommo.webhook_events, kommo.conversations, kommo.participants RESTART IDENTITY CASCADE',
  )
  setup.kommo.faults.clear()
})

/** A webhook as a version that could not understand it left it behind. */
async function leaveBehind(webhook: SignedWebhook, receivedAt = '2026-05-01T12:00:00Z'): Promise<bigint> {
  const [row] = await setup.sql<{ id: string }>(
    `INSERT INTO kommo.webhook_events (scope_id, kind, body, received_at, processed_at, error)
     VALUES ($1, 'unknown', $2, $3, now(), 'not understood') RETURNING id`,
    [webhook.scopeId, webhook.bytes, receivedAt],
  )
  return BigInt(row?.id ?? 0)
}

function conversationWithMessages(seed: string, messages: number) {
  const conversation = setup.kommo.conversations.generate({ messages, seed: freshSeed(seed) })
  const written = conversation.addMessage({ from: 'manager', text: 'Good morning' })
  return { conversation, written, webhook: setup.kommo.webhooks.message(conversation, written) }
}

const events = () =>
  setup.sql(`SELECT id::int, kind, conversation_id, message_id, sync_request::int, error, processed_at IS NULL AS waits
    FROM kommo.webhook_events ORDER BY id`)

test.each([
  [['replay']],
  [['replay', '--dry-run']],
  [['replay', '--id', 'x']],
  [['replay', '--kind', 'nonsense']],
  [['replay', '--since', 'yesterday']],
  [['replay', '--until', '2026-05-01T12:00:00']],
])('%j ends with 2 and says what is wrong', async (args) => {
  const { code, stdout, stderr } = await setup.run(...args)
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr.length).toBeGreaterThan(20)
})

describe('webhooks that an older version could not understand', () => {
  test('are classified again, stored, and their conversations are read', async () => {
    const { conversation, written, webhook } = conversationWithMessages('understood', 60)
    await leaveBehind(webhook)
    await leaveBehind(setup.kommo.webhooks.reaction(conversation, written))
    await leaveBehind(setup.kommo.webhooks.typing(conversation))

    const { code, stdout } = await setup.run('replay', '--failed', '--json')
    expect(JSON.parse(stdout)).toEqual({
      webhooks: { replayed: 3, succeeded: 3, failed: [] },
      conversations: { revived: 0, read: 0, unread: [] },
      unknownIds: [],
    })
    expect(code).toBe(0)
    const of = { conversation_id: conversation.id, error: null, waits: false }
    expect(await events()).toEqual([
      { id: 1, kind: 'message', message_id: written.id, sync_request: 1, ...of },
      { id: 2, kind: 'reaction', message_id: written.id, sync_request: 2, ...of },
      { id: 3, kind: 'typing', message_id: null, sync_request: null, ...of },
    ])
    expect(await setup.sql('SELECT text FROM kommo.messages WHERE id = $1', [written.id])).toEqual([
      { text: 'Good morning' },
    ])
    expect(await setup.sql('SELECT id, scope_id, requested::int FROM kommo.conversations')).toEqual([
      { id: conversation.id, scope_id: conversation.scopeId, requested: 2 },
    ])
  })

  test('and still cannot be understood end it with 1 and are shown with their error', async () => {
    await leaveBehind(setup.kommo.webhooks.sign(setup.kommo.scopeId, 'no json'))
    const { code, stdout } = await setup.run('replay', '--id', '1')
    expect(code).toBe(1)
    expect(stdout).toMatch(/1 still with an error/)
    expect(stdout).toMatch(/1 +invalid +The body is not JSON/)
  })

  test('and were kept without a scope get the one of their body, where there is only one channel', async () => {
    const { conversation, webhook } = conversationWithMessages('no scope', 3)
    await leaveBehind(webhook)
    await setup.sql('UPDATE kommo.webhook_events SET scope_id = NULL')
    expect((await setup.run('replay', '--failed')).code).toBe(0)
    expect(await setup.sql('SELECT scope_id FROM kommo.webhook_events')).toEqual([
      { scope_id: conversation.scopeId },
    ])
  })
})

test('replaying everything twice leaves the tables as they were', async () => {
  const { conversation, webhook } = conversationWithMessages('twice', 70)
  await leaveBehind(webhook)
  await setup.backfill(conversation)
  expect((await setup.run('replay', '--since', '2020-01-01')).code).toBe(0)
  const stored = async () => {
    const tables = await setup.contents()
    return [tables.get('messages'), tables.get('media'), tables.get('participants')]
  }
  const before = await stored()
  expect((await setup.run('replay', '--since', '2020-01-01')).code).toBe(0)
  expect(await stored()).toEqual(before)
  expect(
    await setup.sql(
      'SELECT requested::int, sync_request::int FROM kommo.conversations c JOIN kommo.webhook_events e ON e.conversation_id = c.id',
    ),
  ).toEqual([
    // One by the backfill, two by the replays.
    { requested: 3, sync_request: 3 },
  ])
})

describe('the selection', () => {
  beforeEach(async () => {
    const { conversation, written, webhook } = conversationWithMessages('selection', 3)
    await leaveBehind(webhook, '2026-05-01T12:00:00Z')
    await leaveBehind(setup.kommo.webhooks.typing(conversation), '2026-05-02T12:00:00Z')
    await leaveBehind(setup.kommo.webhooks.reaction(conversation, written), '2026-05-03T12:00:00Z')
    await setup.sql(`UPDATE kommo.webhook_events SET kind = 'typing', error = NULL WHERE id = 2`)
  })

  test.each([
    [
      ['--id', '1', '3'],
      [1, 3],
    ],
    [
      ['--since', '2026-05-02T12:00:00Z'],
      [2, 3],
    ],
    [['--until', '2026-05-02T12:00:00Z'], [1]],
    [['--since', '2026-05-01T13:00:00+00:00', '--until', '2026-05-03'], [2]],
    [['--kind', 'typing', 'reaction'], [2]],
    [['--failed'], [1, 3]],
    [['--failed', '--since', '2026-05-02'], [3]],
  ])('%j takes the webhooks %j', async (args, expected) => {
    await setup.sql(`UPDATE kommo.webhook_events SET processed_at = now() - interval '1 hour'`)
    expect((await setup.run('replay', ...args)).code).toBe(0)
    const taken = await setup.sql<{ id: number }>(
      `SELECT id::int FROM kommo.webhook_events WHERE processed_at > now() - interval '30 min' OR processed_at IS NULL ORDER BY id`,
    )
    expect(taken.map(({ id }) => id)).toEqual(expected)
  })

  test('--dry-run counts and changes nothing', async () => {
    const before = await setup.contents()
    const { code, stdout } = await setup.run(
      'replay',
      '--since',
      '2020-01-01',
      '--dead',
      '--dry-run',
      '--json',
    )
    expect([code, JSON.parse(stdout)]).toEqual([
      0,
      {
        dryRun: true,
        webhooks: [
          { kind: 'typing', total: 1, failed: 0 },
          { kind: 'unknown', total: 2, failed: 2 },
        ],
        deadConversations: 0,
        unknownIds: [],
      },
    ])
    expect(await setup.contents()).toEqual(before)
    expect((await setup.run('replay', '--failed', '--dry-run')).stdout).toMatch(/unknown +2 +2/)
  })

  test('an id that is not in the inbox ends with 1 and is named', async () => {
    const { code, stdout } = await setup.run('replay', '--id', '1', '--id', '77')
    expect(code).toBe(1)
    expect(stdout).toContain('Replayed 1 webhook')
    expect(stdout).toMatch(/Not in the inbox.*77/)
  })

  test('that matches nothing is done', async () => {
    const { code, stdout } = await setup.run('replay', '--kind', 'message_v1')
    expect([code, stdout]).toEqual([0, 'No webhook matches.\n'])
  })
})

test('an old webhook does not overwrite what is known of its conversation, and numbers stay each their own', async () => {
  const { conversation, webhook } = conversationWithMessages('numbers', 3)
  for (let count = 0; count < 7; count += 1) await leaveBehind(webhook)
  await setup.sql(
    `INSERT INTO kommo.conversations (id, scope_id, client_id, requested, processed)
     VALUES ($1, $2, 'known', 5, 5)`,
    [conversation.id, conversation.scopeId],
  )
  expect((await setup.run('replay', '--failed')).code).toBe(0)
  const numbers = await setup.sql<{ number: number }>(
    'SELECT sync_request::int AS number FROM kommo.webhook_events ORDER BY id',
  )
  expect(numbers.map(({ number }) => number)).toEqual([6, 7, 8, 9, 10, 11, 12])
  expect(await setup.sql('SELECT client_id, requested::int FROM kommo.conversations')).toEqual([
    { client_id: 'known', requested: 12 },
  ])
})

describe('--dead', () => {
  async function die(id: string): Promise<void> {
    await setup.sql(
      `INSERT INTO kommo.conversations (id, scope_id, requested, attempts, last_error, dead_at)
       VALUES ($1, $2, 1, 20, 'gave up', now())`,
      [id, setup.kommo.scopeId],
    )
  }

  test('revives dead conversations and reads them', async () => {
    const { conversation } = conversationWithMessages('revived', 60)
    await die(conversation.id)
    const { code, stdout } = await setup.run('replay', '--dead')
    expect([code, stdout]).toEqual([0, 'Revived 1 conversation(s), 1 could be read.\n'])
    expect(
      await setup.sql('SELECT attempts, last_error, dead_at, history_complete FROM kommo.conversations'),
    ).toEqual([{ attempts: 0, last_error: null, dead_at: null, history_complete: true }])
  })

  test('ends with 1 where one fails again, and says why', async () => {
    const { conversation } = conversationWithMessages('dead again', 3)
    setup.kommo.faults.add({ kind: 'status', status: 404, conversationId: conversation.id })
    await die(conversation.id)
    const { code, stdout } = await setup.run('replay', '--dead', '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout).conversations).toEqual({
      revived: 1,
      read: 0,
      unread: [{ id: conversation.id, lastError: expect.stringContaining('404') }],
    })
  })

  test('with none dead is done', async () => {
    const { code, stdout } = await setup.run('replay', '--dead')
    expect([code, stdout]).toEqual([0, 'No conversation is dead.\n'])
  })
})

test('more webhooks than a batch holds are all taken', async () => {
  const { conversation, webhook } = conversationWithMessages('many', 3)
  await setup.sql(
    `INSERT INTO kommo.webhook_events (scope_id, kind, body, processed_at, error)
     SELECT $1, 'unknown', $2, now(), 'not understood' FROM generate_series(1, 1200)`,
    [conversation.scopeId, webhook.bytes],
  )
  const { code, stdout } = await setup.run('replay', '--failed')
  expect([code, stdout]).toEqual([0, 'Replayed 1200 webhook(s), none has an error.\n'])
  expect(
    await setup.sql(
      'SELECT count(DISTINCT sync_request)::int AS numbers, max(sync_request)::int AS last FROM kommo.webhook_events',
    ),
  ).toEqual([{ numbers: 1200, last: 1200 }])
})
