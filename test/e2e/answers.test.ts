import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { freshSeed } from '../helpers/fresh-seed.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { untilSynced } from '../helpers/synced.ts'
import {
  type Answer,
  type SendChange,
  type WebhookSender,
  createWebhookSender,
} from '../helpers/webhook-sender.ts'

// The published vectors belong to this secret.
const FIRST = {
  id: 'f62a0162-46a7-430e-b06c-0ef798d76a21',
  secret: 'fb50586ff7b68cd831fe0ef356345903f644c0d2',
}
const SECOND = {
  id: 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354',
  secret: '6f1c0a9d2be84735c1d0e9f8a7b6c5d4e3f20118',
}
const PREVIOUS_SECRET = '0f1e2d3c4b5a69788796a5b4c3d2e1f00112233a'
const ACCOUNT = '52fd2a28-d2eb-4bd8-b862-a67934927b38'
const ADMIN_TOKEN = 'operator-token-for-tests'
const W1 =
  '{"account_id":"52fd2a28-d2eb-4bd8-b862-a67934927b38","time":1670930694,"message":{"conversation":{"id":"30477717-9f3c-4d3f-8101-60327e14dc48","client_id":"conv-1"},"timestamp":1670930693,"msec_timestamp":1670930693280,"message":{"id":"c57dae8e-de79-468b-a923-9a7c88c733d7","type":"text","text":"Hello"}}}'

let kommo: SimulatedKommo
let database: TestDatabase
let service: RunningService
let sender: WebhookSender

const channelVariables = () => ({
  KOMMO_BASE_URL: kommo.url,
  KOMMO_REQUESTS_PER_SECOND: '1000',
  KOMMO_CHANNELS: JSON.stringify([{ ...FIRST, previousSecret: PREVIOUS_SECRET }, SECOND]),
})

beforeAll(async () => {
  kommo = await startSimulatedKommo({ channels: [FIRST, SECOND] })
  kommo.account({ channelId: FIRST.id, accountId: ACCOUNT })
  kommo.account({ channelId: SECOND.id, accountId: ACCOUNT })
  database = await createTestDatabase()
  service = await startService({ ...channelVariables(), DATABASE_URL: database.url, ADMIN_TOKEN })
  sender = createWebhookSender(service.url)
})

afterAll(async () => {
  await sender?.[Symbol.asyncDispose]()
  await service?.stop()
  await database?.drop()
  await kommo?.close()
})

const SCOPE = `${FIRST.id}_${ACCOUNT}`

function signed(body: string | Uint8Array, scopeId = SCOPE): SignedWebhook {
  return kommo.webhooks.sign(scopeId, body)
}

interface StoredEvent {
  scope_id: string | null
  kind: string
  error: string | null
  body: Buffer
}

async function inbox(): Promise<StoredEvent[]> {
  const { rows } = await database.pool.query<StoredEvent>(
    'SELECT scope_id, kind, error, body FROM kommo.webhook_events ORDER BY id',
  )
  return rows
}

/** The value of one line of /metrics; 0 while it is absent. */
async function metric(line: string, url = service.url): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const found = text.split('\n').find((candidate) => candidate.startsWith(`${line} `))
  return Number(found?.slice(line.length + 1) ?? 0)
}

const accepted = (kind: string) => `kommo_sync_webhooks_accepted_total{kind="${kind}"}`
const rejected = (reason: string) => `kommo_sync_webhooks_rejected_total{reason="${reason}"}`
const oddity = (name: string) => `kommo_sync_webhook_oddities_total{oddity="${name}"}`

interface Seen {
  answer: Answer
  stored: StoredEvent[]
  /** By how much the named metric rose. */
  counted: number
}

async function deliver(webhook: SignedWebhook, counter: string, change: SendChange = {}): Promise<Seen> {
  const before = { events: (await inbox()).length, count: await metric(counter) }
  const answer = await sender.send(webhook, change)
  await untilReady(service)
  return {
    answer,
    stored: (await inbox()).slice(before.events),
    counted: (await metric(counter)) - before.count,
  }
}

function expectAccepted({ answer, stored, counted }: Seen, bytes: Uint8Array): void {
  expect(answer).toEqual({
    status: 200,
    contentType: expect.stringContaining('application/json'),
    body: '{"status":"accepted"}',
  })
  expect(stored.map(({ body }) => body.toString('hex'))).toEqual([Buffer.from(bytes).toString('hex')])
  expect(counted).toBe(1)
}

function expectRefused({ answer, stored, counted }: Seen, status: number, secrets: readonly string[]): void {
  expect(answer.status).toBe(status)
  expect(answer.contentType).toContain('application/problem+json')
  expect(JSON.parse(answer.body)).toMatchObject({
    status,
    title: expect.any(String),
    detail: expect.any(String),
  })
  for (const secret of secrets) expect(answer.body).not.toContain(secret)
  expect(stored).toEqual([])
  expect(counted).toBe(1)
}

describe('a good signature', () => {
  test.each([
    ['message', W1],
    ['message', '{"message":{"message":{"text":"Olá 👋 Привет"}}}'],
    ['message', '{"account_id":"52fd2a28-d2eb-4bd8-b862-a67934927b38","message":{"message":{}}}'],
    ['typing', `{"account_id":"${ACCOUNT}","action":{"typing":{"conversation":{"id":"chat-1"}}}}`],
    [
      'reaction',
      `{"account_id":"${ACCOUNT}","action":{"reaction":{"conversation":{"id":"chat-1"},"msgid":"m"}}}`,
    ],
    ['message_v1', '{"receiver":"client-1","conversation_id":"conv-1","type":"text","text":"Hello"}'],
    ['unknown', '{}'],
    ['unknown', `{"account_id":"${ACCOUNT}","action":{"pinned":{"conversation":{"id":"chat-1"}}}}`],
    ['invalid', ''],
    ['invalid', 'not json'],
    ['invalid', '[1,2,3]'],
    ['invalid', '"text"'],
    ['invalid', 'message%5Badd%5D%5B0%5D%5Btext%5D=Hello'],
  ])('is accepted and kept as %s: %s', async (kind, body) => {
    const webhook = signed(body)
    const seen = await deliver(webhook, accepted(kind))
    expectAccepted(seen, webhook.bytes)
    expect(seen.stored).toMatchObject([{ kind, scope_id: SCOPE }])
  })

  test('is accepted over bytes that are not UTF-8', async () => {
    const webhook = signed(new Uint8Array([0, 255, 254, 10, 0xc3, 0x28]))
    const seen = await deliver(webhook, accepted('invalid'))
    expectAccepted(seen, webhook.bytes)
    expect(seen.stored).toMatchObject([{ kind: 'invalid' }])
  })

  test('v1 stays in the inbox with an error that says what to do', async () => {
    const body = '{"receiver":"client-1","conversation_id":"conv-1","type":"text","text":"Good morning"}'
    const { stored } = await deliver(signed(body), accepted('message_v1'))
    expect(stored[0]?.error).toContain('hook_api_version')
    expect(stored[0]?.error).not.toContain('Good morning')
  })

  test('is accepted in upper case', async () => {
    const webhook = signed(W1)
    const seen = await deliver(webhook, accepted('message'), { signature: webhook.signature.toUpperCase() })
    expectAccepted(seen, webhook.bytes)
  })

  test.each([
    'application/json; charset=utf-8',
    'text/plain',
    'application/x-www-form-urlencoded',
    'garbage',
    '',
    ';;;',
  ])('is accepted with the content type "%s"', async (type) => {
    const webhook = signed(W1)
    expectAccepted(
      await deliver(webhook, accepted('message'), { headers: { 'content-type': type } }),
      webhook.bytes,
    )
  })

  test('is accepted when it was made with the previous secret, and counted as such', async () => {
    const signature = createHmac('sha1', PREVIOUS_SECRET).update(W1).digest('hex')
    const webhook = signed(W1)
    expectAccepted(await deliver(webhook, oddity('previous_secret'), { signature }), webhook.bytes)
  })

  test.each([
    ['\n', 'ae310a7ef84e29d376824fe9b1b656769eed3341'],
    ['\r\n', '0ee02598d2a3fecf05db7c1f45c12bdbedf781a2'],
  ])('over all bytes is accepted with a final line break (%j)', async (lineBreak, signature) => {
    const webhook = signed(W1 + lineBreak)
    expectAccepted(await deliver(webhook, accepted('message'), { signature }), webhook.bytes)
  })

  test.each(['\n', '\r\n'])(
    'over the bytes before a final line break (%j) is accepted and counted',
    async (end) => {
      const webhook = signed(W1 + end)
      const change = { signature: 'cf176baaa7490e87cc3ac0b98ab6f568192ad240' }
      expectAccepted(await deliver(webhook, oddity('trimmed_body'), change), webhook.bytes)
    },
  )

  test('is kept under the signed account when the address names another one', async () => {
    const other = '00000000-1111-4222-8333-444444444444'
    const webhook = signed(W1)
    const seen = await deliver(webhook, oddity('other_account'), { scopeInAddress: `${FIRST.id}_${other}` })
    expectAccepted(seen, webhook.bytes)
    expect(seen.stored[0]?.scope_id).toBe(SCOPE)
  })

  test('of each channel is accepted at that channel alone', async () => {
    const webhook = signed(W1, `${SECOND.id}_${ACCOUNT}`)
    const seen = await deliver(webhook, accepted('message'))
    expectAccepted(seen, webhook.bytes)
    expect(seen.stored[0]?.scope_id).toBe(`${SECOND.id}_${ACCOUNT}`)
    const crossed = await deliver(webhook, rejected('wrong_signature'), { scopeInAddress: SCOPE })
    expectRefused(crossed, 401, [FIRST.secret, SECOND.secret])
  })

  test('is accepted with a channel id in upper case', async () => {
    const webhook = signed(W1)
    const change = { scopeInAddress: `${FIRST.id.toUpperCase()}_${ACCOUNT}` }
    expectAccepted(await deliver(webhook, accepted('message'), change), webhook.bytes)
  })

  test('over exactly 1 MiB is accepted, over one byte more it is not', async () => {
    const most = signed('x'.repeat(1024 * 1024))
    expectAccepted(await deliver(most, accepted('invalid')), most.bytes)
    const tooMuch = signed('x'.repeat(1024 * 1024 + 1))
    expectRefused(await deliver(tooMuch, rejected('too_large')), 413, [FIRST.secret, tooMuch.signature])
  })
})

describe('what is not signed', () => {
  const text = 'Personal words 42'
  const body = JSON.stringify({ account_id: ACCOUNT, message: { message: { text } } })

  test.each([
    ['no signature', 'no_signature', null],
    ['an empty signature', 'no_signature', ''],
    ['a wrong signature', 'wrong_signature', '0123456789012345678901234567890123456789'],
    ['a signature of another length', 'wrong_signature', 'abc'],
    ['a signature that is no hex', 'wrong_signature', 'zz176baaa7490e87cc3ac0b98ab6f568192ad240'],
  ])('is refused with 401 and counted: %s', async (_name, reason, signature) => {
    const webhook = signed(body)
    const seen = await deliver(webhook, rejected(reason), { signature })
    expectRefused(seen, 401, [text, FIRST.secret, PREVIOUS_SECRET, webhook.signature])
  })

  test.each([
    '00000000-0000-0000-0000-000000000000_52fd2a28-d2eb-4bd8-b862-a67934927b38',
    'x',
    '%20',
    '_',
    `${FIRST.id.slice(1)}_${ACCOUNT}`,
  ])('is refused with 401 and counted: the unknown channel of %s', async (scopeInAddress) => {
    const webhook = signed(body)
    const seen = await deliver(webhook, rejected('unknown_channel'), { scopeInAddress })
    expectRefused(seen, 401, [text, FIRST.secret, webhook.signature])
  })

  test('is refused with 413 when it is over 1 MiB', async () => {
    const seen = await deliver(signed('x'.repeat(1024 * 1024 + 1)), rejected('too_large'), {
      signature: null,
    })
    expectRefused(seen, 413, [FIRST.secret])
  })
})

describe('where no database takes it', () => {
  test('a webhook is answered 503 or kept elsewhere, and the service says that it is not ready', async () => {
    const away = await createTestDatabase()
    await using alone = await startService({ ...channelVariables(), DATABASE_URL: away.url })
    await using to = createWebhookSender(alone.url)
    await away.drop()
    const webhook = signed(W1)
    const answer = await to.send(webhook)
    // Kept on disk (200) or refused for now (503): never anything else.
    expect([200, 503]).toContain(answer.status)
    if (answer.status === 503) {
      expect(answer.contentType).toContain('application/problem+json')
      expect(await metric(rejected('not_kept'), alone.url)).toBe(1)
    }
    const ready = await fetch(`${alone.url}/readyz`)
    expect(ready.status).toBe(503)
    expect(ready.headers.get('content-type')).toContain('application/problem+json')
    expect(await ready.text()).toContain('database')
    expect((await fetch(`${alone.url}/healthz`)).status).toBe(200)
  })
})

describe('roles', () => {
  test.each(['all', 'receiver', 'worker'])('%s serves /healthz, /readyz and /metrics', async (ROLE) => {
    await using other = await startService({ ...channelVariables(), DATABASE_URL: database.url, ROLE })
    const health = await fetch(`${other.url}/healthz`)
    expect([health.status, await health.json()]).toEqual([200, { status: 'ok' }])
    await untilReady(other)
    const metrics = await fetch(`${other.url}/metrics`)
    expect(metrics.headers.get('content-type')).toContain('text/plain')
    expect(await metrics.text()).toMatch(/^# HELP kommo_sync_webhooks_accepted_total /m)

    await using to = createWebhookSender(other.url)
    const { status } = await to.send(signed('{}'))
    expect(status).toBe(ROLE === 'worker' ? 404 : 200)
  })

  test('a receiver keeps webhooks and reads nothing; a worker that comes later reads', async () => {
    const own = await createTestDatabase()
    try {
      const conversation = kommo.conversations.generate({ messages: 60, seed: freshSeed('roles') })
      const message = [...conversation.messages()].find(({ receiver }) => receiver !== null)
      if (message === undefined) throw new Error('no outgoing message')
      {
        await using receiver = await startService({
          ...channelVariables(),
          DATABASE_URL: own.url,
          ROLE: 'receiver',
        })
        await using to = createWebhookSender(receiver.url)
        expect((await to.send(kommo.webhooks.message(conversation, message))).status).toBe(200)
        await untilReady(receiver)
        await receiver.stop()
      }
      expect(kommo.stats.historyRequestsOf(conversation.id)).toBe(0)
      await using _worker = await startService({
        ...channelVariables(),
        DATABASE_URL: own.url,
        ROLE: 'worker',
      })
      await untilSynced(own.pool)
      const { rows } = await own.pool.query('SELECT count(*)::int AS n FROM kommo.messages')
      expect(rows).toEqual([{ n: 60 }])
    } finally {
      await own.drop()
    }
  })
})

describe('POST /conversations/:id/sync', () => {
  const call = (id: string, init: { token?: string; body?: string; type?: string; url?: string } = {}) =>
    fetch(`${init.url ?? service.url}/conversations/${id}/sync`, {
      method: 'POST',
      headers: {
        ...(init.token === undefined ? {} : { authorization: `Bearer ${init.token}` }),
        ...(init.body === undefined ? {} : { 'content-type': init.type ?? 'application/json' }),
      },
      ...(init.body === undefined ? {} : { body: init.body }),
    })

  test('answers 404 where no ADMIN_TOKEN is set', async () => {
    await using without = await startService({ ...channelVariables(), DATABASE_URL: database.url })
    expect((await call('chat-1', { url: without.url })).status).toBe(404)
    expect((await call('chat-1', { url: without.url, token: ADMIN_TOKEN })).status).toBe(404)
    expect((await call('chat-1', { url: without.url, token: 'null' })).status).toBe(404)
  })

  test.each([undefined, '', 'wrong', `${ADMIN_TOKEN}x`, ADMIN_TOKEN.toUpperCase()])(
    'answers 401 to the token %s',
    async (token) => {
      const answer = await call('chat-1', token === undefined ? {} : { token })
      expect(answer.status).toBe(401)
      expect(answer.headers.get('content-type')).toContain('application/problem+json')
      expect(await answer.text()).not.toContain(ADMIN_TOKEN)
    },
  )

  test('syncs a conversation that is not known yet when its scope is named, and again without', async () => {
    const conversation = kommo.conversations.generate({ messages: 70, seed: freshSeed('operator') })
    const unknown = await call(conversation.id, { token: ADMIN_TOKEN })
    expect(unknown.status).toBe(404)

    const body = JSON.stringify({ scope_id: conversation.scopeId })
    const answer = await call(conversation.id, { token: ADMIN_TOKEN, body })
    expect(answer.status).toBe(202)
    const stored = () =>
      vi.waitFor(async () => {
        await untilSynced(database.pool)
        const { rows } = await database.pool.query<{ n: number }>(
          'SELECT count(*)::int AS n FROM kommo.messages WHERE conversation_id = $1',
          [conversation.id],
        )
        expect(rows).toEqual([{ n: conversation.size }])
      }, SOON)
    await stored()

    conversation.clientWrites('Told by no webhook')
    expect((await call(conversation.id, { token: ADMIN_TOKEN })).status).toBe(202)
    await stored()
  })

  test.each([
    ['{"scope_id":1}', 400],
    ['{"scope_id":""}', 400],
    ['[]', 400],
    ['"text"', 400],
    ['{not json', 400],
    ['{"scope_id":"00000000-0000-0000-0000-000000000000_x"}', 400],
  ])('answers %s with %i', async (body, status) => {
    const answer = await call('chat-new', { token: ADMIN_TOKEN, body })
    expect(answer.status).toBe(status)
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
  })

  test.each([
    ['a NUL in the id', '%00', undefined],
    ['an id that fits into no index', 'x'.repeat(4_000), undefined],
    ['a NUL in the scope', 'chat-new', JSON.stringify({ scope_id: `${SCOPE}\0` })],
    ['half a surrogate pair in the scope', 'chat-new', `{"scope_id":"${SCOPE}\\ud83d"}`],
  ])('answers what no table can hold with 400 or 404, never with 5xx: %s', async (_name, id, body) => {
    const answers = [
      await call(id, { token: ADMIN_TOKEN, body: body ?? JSON.stringify({ scope_id: SCOPE }) }),
      await call(id, { token: ADMIN_TOKEN, ...(body === undefined ? {} : { body }) }),
    ]
    for (const { status } of answers) expect([400, 404]).toContain(status)
  })
})

test.each([
  ['GET', '/'],
  ['GET', '/webhooks/kommo/x'],
  ['POST', '/webhooks/kommo'],
  ['PUT', '/webhooks/kommo/x'],
  ['DELETE', '/conversations/x/sync'],
  ['POST', '/healthz'],
])('%s %s is answered 404 or 405 as a problem', async (method, path) => {
  const answer = await fetch(service.url + path, { method })
  expect([404, 405]).toContain(answer.status)
  expect(answer.headers.get('content-type')).toContain('application/problem+json')
})
