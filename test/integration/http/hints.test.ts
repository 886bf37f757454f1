import { performance } from 'node:perf_hooks'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { buildApp } from '../../../src/app.ts'
import type { HintDoor } from '../../../src/domain/hint.ts'
import { createLogger } from '../../../src/logger.ts'
import { createMetrics } from '../../../src/metrics.ts'
import { callForHints } from '../../../src/store/hints.ts'
import { startHints } from '../../../src/sync/hints.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { SCOPE } from '../../helpers/sighting.ts'
import { SOON } from '../../helpers/soon.ts'

const KNOWN = '0b1c2d3e-4444-4a44-8a44-000000000001'
const FOREIGN = '0b1c2d3e-4444-4a44-8a44-000000000002'
const NEW = '0b1c2d3e-4444-4a44-8a44-000000000003'

const OUR_ORIGIN = 'amo.ext.invented'
const ANY_ORIGIN_TOKEN = 'any-origin-token-0001'
const OUR_ORIGIN_TOKEN = 'our-origin-token-0002'
const DOORS: HintDoor[] = [
  { scopeId: SCOPE, token: ANY_ORIGIN_TOKEN, origin: null },
  { scopeId: SCOPE, token: OUR_ORIGIN_TOKEN, origin: OUR_ORIGIN },
]

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
beforeEach(async () => {
  await database.pool.query('TRUNCATE kommo.conversations CASCADE')
  await database.pool.query(
    `INSERT INTO kommo.conversations (id, scope_id, requested, processed)
     VALUES ($1, $2, 1, 1), ($3, 'other-channel_account', 1, 1)`,
    [KNOWN, SCOPE, FOREIGN],
  )
})
afterAll(() => database.drop())

const log = createLogger('silent')

async function open(doors: readonly HintDoor[] | null = DOORS) {
  const hints = startHints({ database, log })
  const app = buildApp({
    log,
    metrics: createMetrics(),
    channels: [],
    adminToken: null,
    trustedProxies: [],
    inbox: null,
    missing: async () => [],
    callForSync: async () => false,
    ...(doors === null ? {} : { hints: { doors, addHint: hints.add } }),
  })
  onTestFinished(async () => {
    await app.close()
    await hints.stop()
  })
  return {
    hints,
    send: (token: string, payload: string | Buffer, type = 'application/x-www-form-urlencoded') =>
      app.inject({
        method: 'POST',
        url: `/hints/kommo/${token}`,
        headers: { 'content-type': type },
        payload,
      }),
  }
}

function form(chatId: string, fields: Record<string, string> = {}): string {
  const body = new URLSearchParams()
  for (const [name, value] of Object.entries({ chat_id: chatId, text: 'private words', ...fields })) {
    body.append(`message[add][0][${name}]`, value)
  }
  return body.toString()
}

const row = (id: string) => database.prisma.conversation.findUnique({ where: { id } })
const isCalled = (id: string, requested: bigint) =>
  vi.waitFor(async () => expect(await row(id)).toMatchObject({ requested }), SOON)

test('a hint calls for a sync of its conversation', async () => {
  const { send } = await open()
  const answer = await send(ANY_ORIGIN_TOKEN, form(KNOWN))
  expect([answer.statusCode, answer.json()]).toEqual([200, { status: 'accepted' }])
  await isCalled(KNOWN, 2n)
})

test('nothing of it is taken as data', async () => {
  const { send } = await open()
  await send(OUR_ORIGIN_TOKEN, form(NEW, { id: NEW, origin: OUR_ORIGIN, created_at: '1790000000' }))
  await isCalled(NEW, 1n)
  expect(await row(NEW)).toMatchObject({ lastMessageAt: null, clientId: null, scopeId: SCOPE })
  expect([await database.prisma.message.count(), await database.prisma.webhookEvent.count()]).toEqual([0, 0])
})

test('an unknown conversation is taken on only where its origin is the channel’s', async () => {
  const { send, hints } = await open()
  await send(ANY_ORIGIN_TOKEN, form(NEW, { origin: OUR_ORIGIN }))
  await send(OUR_ORIGIN_TOKEN, form(NEW))
  await send(OUR_ORIGIN_TOKEN, form(NEW, { origin: 'waba' }))
  await hints.stop()
  expect(await row(NEW)).toBeNull()
})

test('a conversation of another origin is left alone, one of no origin is read', async () => {
  const { send, hints } = await open()
  await send(OUR_ORIGIN_TOKEN, form(KNOWN, { origin: 'waba' }))
  await hints.stop()
  expect(await row(KNOWN)).toMatchObject({ requested: 1n })
  const again = await open()
  await again.send(OUR_ORIGIN_TOKEN, form(KNOWN))
  await isCalled(KNOWN, 2n)
})

test('a token opens the conversations of its own scope alone', async () => {
  const { send, hints } = await open()
  await send(OUR_ORIGIN_TOKEN, form(FOREIGN, { origin: OUR_ORIGIN }))
  await hints.stop()
  expect(await row(FOREIGN)).toMatchObject({ requested: 1n, scopeId: 'other-channel_account' })
})

test.each([
  ['nothing', '', 'application/x-www-form-urlencoded'],
  ['JSON', '{"message":', 'application/json'],
  ['bytes of no kind', Buffer.from([0xff, 0x00, 0xfe]), 'no type at all'],
])('with a good token %s is answered 200', async (_name, payload, type) => {
  const { send } = await open()
  const { statusCode } = await send(ANY_ORIGIN_TOKEN, payload, type)
  expect(statusCode).toBe(200)
})

test('a wrong token is answered as an address that does not exist', async () => {
  const { send } = await open()
  const closed = await open(null)
  const answers = [
    await send('wrong-token-of-some-length', form(KNOWN)),
    await send(ANY_ORIGIN_TOKEN.slice(0, -1), form(KNOWN)),
    await closed.send(ANY_ORIGIN_TOKEN, form(KNOWN)),
  ]
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([404, 404, 404])
  expect(new Set(answers.map(({ body }) => body)).size).toBe(1)
})

test('whoever guesses is turned away, and the good token is not', async () => {
  const { send } = await open()
  const answers = []
  for (let n = 0; n < 25; n += 1) answers.push((await send(`guess-number-${n}-of-many`, '')).statusCode)
  expect(answers.slice(0, 20)).toEqual(Array.from({ length: 20 }, () => 404))
  expect(answers.at(-1)).toBe(429)
  expect((await send(ANY_ORIGIN_TOKEN, form(KNOWN))).statusCode).toBe(200)
})

test('a flood with a good token is turned away, and costs few statements', async () => {
  const { send, hints } = await open()
  const answers = await Promise.all(Array.from({ length: 1500 }, () => send(ANY_ORIGIN_TOKEN, form(KNOWN))))
  const good = answers.filter(({ statusCode }) => statusCode === 200).length
  expect(good).toBeGreaterThanOrEqual(1000)
  expect(answers.at(-1)?.statusCode).toBe(429)
  await hints.stop()
  expect(Number((await row(KNOWN))?.requested)).toBeLessThan(500)
})

test('a body over 256 KiB is refused', async () => {
  const { send } = await open()
  const answer = await send(ANY_ORIGIN_TOKEN, form(KNOWN, { text: 'x'.repeat(256 * 1024) }))
  expect(answer.statusCode).toBe(413)
})

test('while the database hangs the answer comes all the same, and the hint is kept', async () => {
  const { send } = await open()
  const client = await database.pool.connect()
  try {
    await client.query('BEGIN')
    await client.query('LOCK TABLE kommo.conversations')
    const startedAt = performance.now()
    expect((await send(ANY_ORIGIN_TOKEN, form(KNOWN))).statusCode).toBe(200)
    expect(performance.now() - startedAt).toBeLessThan(2000)
    await client.query('ROLLBACK')
  } finally {
    client.release()
  }
  await isCalled(KNOWN, 2n)
})

test('of a flood while the database hangs ten thousand conversations are kept, and the log counts the others', async () => {
  const lines: string[] = []
  const hints = startHints({
    database,
    log: createLogger('warn', { write: (line) => void lines.push(line) }),
  })
  onTestFinished(() => hints.stop())
  const client = await database.pool.connect()
  try {
    await client.query('BEGIN')
    await client.query('LOCK TABLE kommo.conversations')
    for (let n = 0; n < 11_000; n += 1) {
      hints.add({ conversationId: `flood ${n}`, scopeId: SCOPE, mayBeNew: true })
    }
    await client.query('ROLLBACK')
  } finally {
    client.release()
  }
  await hints.stop()
  const called = await database.prisma.conversation.count({ where: { id: { startsWith: 'flood' } } })
  // A batch may have been on its way already.
  expect(called).toBeGreaterThanOrEqual(10_000)
  expect(called).toBeLessThanOrEqual(10_500)
  expect(lines.join('')).toContain(`"dropped":${11_000 - called}`)
})

describe('the call', () => {
  const hint = (conversationId = KNOWN) =>
    callForHints(database.prisma, [{ conversationId, scopeId: SCOPE, mayBeNew: false }])
  const set = (columns: string) =>
    database.pool.query(`UPDATE kommo.conversations SET ${columns} WHERE id = $1`, [KNOWN])
  const waitMs = async () => ((await row(KNOWN))?.runAfter.getTime() ?? 0) - Date.now()

  test('keeps the pause between two reads', async () => {
    await set("run_after = now() + interval '1 min'")
    await hint()
    expect(await waitMs()).toBeGreaterThan(50_000)
  })

  test('cancels no back-off', async () => {
    await set("requested = 2, attempts = 5, run_after = now() + interval '1 h'")
    await hint()
    expect(await row(KNOWN)).toMatchObject({ attempts: 5, requested: 3n })
    expect(await waitMs()).toBeGreaterThan(3_000_000)
  })

  test('revives what was given up', async () => {
    await set('requested = 2, attempts = 20, dead_at = now()')
    await hint()
    expect(await row(KNOWN)).toMatchObject({ attempts: 0, deadAt: null })
  })

  test('of an idle conversation waits a moment for what follows', async () => {
    await hint()
    const settled = await waitMs()
    await hint()
    expect(await waitMs()).toBeLessThanOrEqual(settled)
    expect(await row(KNOWN)).toMatchObject({ requested: 3n })
  })
})
