import { afterAll, beforeAll, expect, test } from 'vitest'
import { applyWebhooks } from '../../../src/sync/apply-webhooks.ts'
import { type SyncSetup, setUpSync } from '../../helpers/worker.ts'

let setup: SyncSetup

beforeAll(async () => {
  setup = await setUpSync()
})
afterAll(() => setup.close())

async function receive(body: object): Promise<void> {
  await setup.receive({
    scopeId: setup.simulated.scopeId,
    bytes: Buffer.from(JSON.stringify({ account_id: 'account', ...body })),
  } as Parameters<typeof setup.receive>[0])
}

function reaction(time: number, fields: object) {
  const conversation = { id: 'chat', client_id: 'own-chat' }
  return { time, action: { reaction: { user: { id: 'manager' }, conversation, type: 'react', ...fields } } }
}

const standing = async () =>
  (
    await setup.database.pool.query(
      'SELECT message_id, participant_id, emoji, at FROM kommo.reactions ORDER BY 1',
    )
  ).rows

const events = async () =>
  (
    await setup.database.pool.query(
      'SELECT kind, processed_at IS NULL AS waits, error FROM kommo.webhook_events ORDER BY id',
    )
  ).rows

test('both shapes are worked in before the message is known, and unreact takes back', async () => {
  await receive(reaction(100, { message: { id: 'm-1' }, emoji: '👍' }))
  await receive(reaction(100, { msgid: 'm-2', emoji: '🎉' }))
  await receive(reaction(101, { msgid: 'm-3', emoji: '❤️' }))
  await receive(reaction(102, { message: { id: 'm-3' }, type: 'unreact' }))
  await applyWebhooks(setup.dependencies)
  const at = new Date(100_000)
  expect(await standing()).toEqual([
    { message_id: 'm-1', participant_id: 'manager', emoji: '👍', at },
    { message_id: 'm-2', participant_id: 'manager', emoji: '🎉', at },
  ])
  expect(await setup.dependencies.metrics.registry.metrics()).toContain(
    'kommo_sync_reactions_total{change="unreact"} 1',
  )
})

test('worked in again, as after a replay, they change nothing', async () => {
  const before = await standing()
  await setup.database.pool.query('UPDATE kommo.webhook_events SET processed_at = NULL')
  await applyWebhooks(setup.dependencies)
  expect(await standing()).toEqual(before)
})

test('what an earlier version kept and did not work in, comes back with them', async () => {
  const before = await standing()
  await setup.database.pool.query(`
    TRUNCATE kommo.reaction_states; UPDATE kommo.webhook_events SET processed_at = NULL WHERE kind = 'reaction'`)
  await applyWebhooks(setup.dependencies)
  expect(await standing()).toEqual(before)
})

test('one that says too little stays in the inbox with the reason; typing is kept and nothing is stored of it', async () => {
  await setup.database.pool.query('TRUNCATE kommo.webhook_events')
  await receive(reaction(103, { emoji: '👍' }))
  await receive(reaction(103, { msgid: 'm-4', emoji: '👍', user: {} }))
  await receive({ time: 103, action: { typing: { user: { id: 'manager' }, conversation: { id: 'chat' } } } })
  await applyWebhooks(setup.dependencies)
  expect(await events()).toEqual([
    { kind: 'reaction', waits: false, error: expect.stringContaining('names no message') as string },
    { kind: 'reaction', waits: false, error: 'the reaction does not say whose it is' },
    { kind: 'typing', waits: false, error: null },
  ])
  expect(await standing()).toHaveLength(2)
})
