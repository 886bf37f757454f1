import { afterAll, beforeAll, expect, test } from 'vitest'
import { runHere } from '../../helpers/command.ts'
import { freshSeed } from '../../helpers/fresh-seed.ts'
import { type CommandSetup, setUpCommands } from './setup.ts'

let setup: CommandSetup

beforeAll(async () => {
  setup = await setUpCommands()
})
afterAll(() => setup.close())

async function synced(seed: string, messages: number) {
  const conversation = setup.kommo.conversations.generate({ messages, seed: freshSeed(seed) })
  await setup.backfill(conversation)
  return conversation
}

function idAt(conversation: Awaited<ReturnType<typeof synced>>, place: number): string {
  return [...conversation.messages()][place]?.id ?? ''
}

test.each([
  [['verify']],
  [['verify', 'an-id', '--all']],
  [['verify', 'an-id', '--sample', '3']],
  [['verify', '--all', '--sample', '0']],
  [['verify', 'unknown-id']],
])('%j ends with 2 and says what is wrong', async (args) => {
  const { code, stdout, stderr } = await setup.run(...args)
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr.length).toBeGreaterThan(20)
})

test('conversations that are stored as they are in Kommo are the same, and nothing is written', async () => {
  const conversations = [await synced('same, long', 130), await synced('same, empty', 0)]
  const [long, empty] = conversations
  const before = await setup.contents()
  const { code, stdout } = await setup.run('verify', ...conversations.map(({ id }) => id))
  expect(stdout).toContain(`${long?.id}  same  130 in Kommo, 130 stored\n`)
  expect(stdout).toContain(`${empty?.id}  same  0 in Kommo, 0 stored\n`)
  expect(stdout).toContain('Verified 2 conversation(s), 130 messages in Kommo: all as in Kommo.')
  expect(code).toBe(0)
  expect(await setup.contents()).toEqual(before)
})

test('what is missing, different and gone is told by ids and field names, never by content', async () => {
  const conversation = await synced('differences', 120)
  const [lost, edited, removed, marked, back] = [5, 30, 60, 70, 80].map((place) => idAt(conversation, place))
  await setup.sql('DELETE FROM kommo.messages WHERE id = $1', [lost])
  await setup.sql(`UPDATE kommo.messages SET text = 'something else' WHERE id = $1`, [edited])
  conversation.removeMessage(removed ?? '')
  conversation.removeMessage(marked ?? '')
  await setup.sql(`UPDATE kommo.messages SET missing_since = '2026-01-01' WHERE id = ANY($1)`, [
    [marked, back],
  ])
  const before = await setup.contents()

  const { code, stdout } = await setup.run('verify', conversation.id, '--json')
  expect(code).toBe(1)
  const facts = JSON.parse(stdout)
  expect(facts).toMatchObject({ conversations: 1, differing: 1 })
  expect(facts.results).toEqual([
    {
      id: conversation.id,
      same: false,
      inKommo: 118,
      stored: 117,
      missing: 1,
      missingRecords: 0,
      different: 2,
      fields: expect.arrayContaining(['text', 'missing_since']),
      gone: 2,
      goneUnmarked: 1,
      newer: 0,
      missingIds: [lost],
      differences: expect.arrayContaining([
        { id: edited, fields: ['text'] },
        { id: back, fields: ['missing_since'] },
      ]),
      goneIds: expect.arrayContaining([
        { id: removed, missingSince: null },
        { id: marked, missingSince: '2026-01-01T00:00:00.000Z' },
      ]),
    },
  ])
  expect(await setup.contents()).toEqual(before)

  const shown = (await setup.run('verify', conversation.id)).stdout
  expect(shown).toContain(`${conversation.id}  DIFFERS  118 in Kommo, 117 stored, 1 missing, 2 different (`)
  expect(shown).toContain('1 gone and not marked, 1 gone')
  expect(shown).toContain('1 with a difference')
  expect(shown).not.toContain('something else')
})

test('what is gone and marked so is no difference', async () => {
  const conversation = await synced('marked', 60)
  const id = idAt(conversation, 20)
  conversation.removeMessage(id)
  await setup.sql('UPDATE kommo.messages SET missing_since = now() WHERE id = $1', [id])
  const { code, stdout } = await setup.run('verify', conversation.id)
  expect(stdout).toContain('same  59 in Kommo, 59 stored, 1 gone\n')
  expect(code).toBe(0)
})

test('a message that is written while it runs does not count as missing', async () => {
  const conversation = await synced('newer', 130)
  let requests = 0
  const undo = setup.kommo.faults.onHistoryRequest((request) => {
    if (request.conversationId !== conversation.id) return
    requests += 1
    if (requests <= 2) conversation.clientWrites(`written before page ${requests}`)
  })
  const { code, stdout } = await setup.run('verify', conversation.id, '--json')
  undo()
  const [result] = JSON.parse(stdout).results
  // The second is above the head that was read; the first is seen.
  expect(result).toMatchObject({ same: true, missing: 0, newer: 1, inKommo: 131 })
  expect(code).toBe(0)
})

test('what only the webhook told is no difference', async () => {
  const conversation = await synced('webhook only', 10)
  const id = idAt(conversation, 0)
  await setup.sql(
    `UPDATE kommo.messages SET extra = extra || '{"reply_to": {"id": "1"}}',
      client_id = COALESCE(client_id, 'known to the webhook') WHERE id = $1`,
    [id],
  )
  expect((await setup.run('verify', conversation.id)).code).toBe(0)
})

test('Kommo that fails for a moment is asked again, and one that refuses is told', async () => {
  const [shaky, refused] = [await synced('shaky', 60), await synced('refused', 3)]
  setup.kommo.faults.add({ kind: 'status', status: 503, conversationId: shaky.id, times: 1 })
  const undo = setup.kommo.faults.add({ kind: 'status', status: 404, conversationId: refused.id })
  const { code, stdout } = await setup.run('verify', shaky.id, refused.id)
  undo()
  expect(stdout).toContain(`${shaky.id}  same`)
  expect(stdout).toMatch(new RegExp(`${refused.id} +cannot be read: Kommo answered 404`))
  expect(code).toBe(1)
})

test('a wrong secret is told at once', async () => {
  const conversation = await synced('wrong secret', 3)
  const { code, stdout } = await runHere(['verify', conversation.id], {
    ...setup.env,
    KOMMO_CHANNEL_SECRET: 'wrong-secret-0123456789',
  })
  expect(stdout).toMatch(/cannot be read: Kommo answered 403 .*KOMMO_CHANNEL_SECRET/)
  expect(code).toBe(1)
  // The service would wait with the channel, too.
  await setup.sql('DELETE FROM kommo.rate_limits')
})

test('--all --sample draws so many of all, and tells how far it is', async () => {
  for (const number of [1, 2, 3]) await synced(`sample ${number}`, 5)
  const { stdout, stderr } = await setup.run('verify', '--all', '--sample', '2', '--json')
  expect(JSON.parse(stdout).conversations).toBe(2)
  expect(stderr).toMatch(/\d\/2 conversations/)
  const [row] = await setup.sql<{ known: number }>('SELECT count(*)::int AS known FROM kommo.conversations')
  expect(JSON.parse((await setup.run('verify', '--all', '--json')).stdout).conversations).toBe(row?.known)
})
