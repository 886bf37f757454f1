import { afterAll, beforeAll, expect, test } from 'vitest'
import { type CommandSetup, setUpCommands } from './setup.ts'

const DEAD = '0f3c8e52-6a1d-4b7e-9c40-000000000001'
const FAILING = '0f3c8e52-6a1d-4b7e-9c40-000000000002'
const BEHIND = '0f3c8e52-6a1d-4b7e-9c40-000000000003'
const REASON = `Kommo answered 500 for the history of conversation ${FAILING}: ${'it will be tried again '.repeat(30)}`

let setup: CommandSetup

beforeAll(async () => {
  setup = await setUpCommands()
  const { sql, kommo } = setup
  await sql(
    `INSERT INTO kommo.conversations (id, scope_id, requested, attempts, last_error, dead_at, run_after) VALUES
       ($1, $4, 1, 20, 'Kommo answered 404', now() - interval '5 hours', now()),
       ($2, $4, 1, 3, $5, NULL, now() + interval '30 min'),
       ($3, $4, 2, 0, NULL, NULL, now())`,
    [DEAD, FAILING, BEHIND, kommo.scopeId, REASON],
  )
  await sql(
    `INSERT INTO kommo.webhook_events (scope_id, kind, conversation_id, sync_request, body, received_at, processed_at, error)
     VALUES ($1, 'message', $2, 1, '', now() - interval '10 min', NULL, NULL),
       ($1, 'message', $2, 2, '', now() - interval '5 min', now(), NULL),
       ($1, 'invalid', NULL, NULL, '', now(), now(), 'The body is not JSON.')`,
    [kommo.scopeId, BEHIND],
  )
  await sql(`INSERT INTO kommo.replicas (id, role, started_at, seen_at) VALUES
    (gen_random_uuid(), 'receiver', now() - interval '3 days', now()),
    (gen_random_uuid(), 'worker', now() - interval '9 days', now() - interval '2 hours')`)
  await sql(
    `INSERT INTO kommo.rate_limits (channel_id, blocked_until, blocked_reason) VALUES ($1, now() + interval '1 hour', 'Kommo answered 429')`,
    [kommo.channelId],
  )
  await sql(
    `INSERT INTO kommo.messages (id, scope_id, conversation_id, direction, text, observed_at, missing_since)
     VALUES ('gone', $1, $2, 'incoming', 'before', now(), now())`,
    [kommo.scopeId, BEHIND],
  )
  await sql(`UPDATE kommo.messages SET text = 'after'`)
})
afterAll(() => setup.close())

test('status tells what waits, what is behind, blocked, failing, dead and gone, within 100 columns', async () => {
  const { code, stdout } = await setup.run('status')
  expect(code).toBe(0)
  for (const line of [
    /^ {2}behind +2$/m,
    /^ {2}failing +1$/m,
    /^ {2}dead +1$/m,
    new RegExp(`behind for longest: ${BEHIND}, 10 min`),
    /gone from Kommo +1$/m,
    /earlier wordings +1$/m,
    /message +2 +1 +0$/m,
    /invalid +1 +0 +1$/m,
    /waiting for longest: 10 min/,
    new RegExp(`${setup.kommo.channelId} +not to be asked until .*\\n +Kommo answered 429`),
    /receiver +up 3 d/,
    new RegExp(`${DEAD} +dead for 5 h\\n +Kommo answered 404`),
    new RegExp(`${FAILING} +attempt 3, next in 30 min\\n +Kommo answered 500`),
  ]) {
    expect(stdout).toMatch(line)
  }
  expect(stdout).not.toMatch(/worker/)
  expect(stdout).toContain('…')
  expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100)
})

test('status --json has it all, reasons in full', async () => {
  const { stdout } = await setup.run('status', '--json')
  expect(JSON.parse(stdout)).toMatchObject({
    conversations: { total: 3, behind: 2, failing: 1, dead: 1, oldestBehind: { id: BEHIND } },
    messages: { total: 1, missing: 1, revisions: 1, estimated: [] },
    webhooks: [
      { kind: 'message', total: 2, pending: 1, failed: 0 },
      { kind: 'invalid', total: 1, pending: 0, failed: 1 },
    ],
    channels: [{ channelId: setup.kommo.channelId, reason: 'Kommo answered 429' }],
    replicas: [{ role: 'receiver' }],
    failing: expect.arrayContaining([expect.objectContaining({ id: FAILING, lastError: REASON })]),
  })
})

test('tables too large to be counted are estimated, and status says so', async () => {
  const statistics = (rows: number) =>
    setup.sql(`UPDATE pg_class SET reltuples = $1 WHERE oid = ANY($2::regclass[])`, [
      rows,
      ['kommo.messages', 'kommo.webhook_events'],
    ])
  await setup.sql('ANALYZE kommo.webhook_events')
  await statistics(12_000_000)
  const { stdout } = await setup.run('status')
  expect(stdout).toMatch(/stored +12000000 +about/)
  expect(stdout).toMatch(/received, about/)
  expect(stdout).toMatch(/message +8000000 +1 +0$/m)
  expect(stdout).toMatch(/invalid +\d+ +0 +1$/m)
  await statistics(-1)
})
