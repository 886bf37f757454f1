import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { runCommand, startCommand, startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { untilSynced } from '../helpers/synced.ts'
import { type WebhookSender, createWebhookSender } from '../helpers/webhook-sender.ts'

const ADMIN_TOKEN = 'operator-token-that-nobody-may-see'
const PREVIOUS_SECRET = '0f1e2d3c4b5a69788796a5b4c3d2e1f00112233a'
const REFUSED_TEXT = 'Palavras que nenhuma tabela quer guardar'
const REFUSED_BODY = 'Слова, которые никто не сохранит'
const WRONG_SIGNATURE = 'badc0ffee0ddf00dbadc0ffee0ddf00dbadc0ffe'
const DATABASE_PASSWORD = 'pass-word-of-the-database'

/** What the service says of what happens to it here. */
const TRACES = [
  'listening',
  'page stored',
  'too many requests',
  'answered 500',
  'answered 403',
  'refuses a webhook',
  'could not be stored',
]

/** Words that the program itself uses would be found everywhere. */
const SHORTEST = 6

let kommo: SimulatedKommo
let database: TestDatabase
let conversations: Conversation[]
const signatures: string[] = []
let output = ''
let metrics = ''

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  conversations = [0, 3, 60, 120, 20, 20, 20].map((messages, index) =>
    kommo.conversations.generate({
      messages,
      seed: `privacy ${index}`,
      ...(index === 1 ? { clientId: null } : {}),
    }),
  )
  database = await createTestDatabase()
  await liveThroughMuch()
})

afterAll(async () => {
  await database?.drop()
  await kommo?.close()
})

/** A day in the life of the service, good and bad, at the chattiest level. */
async function liveThroughMuch(): Promise<void> {
  const env = {
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_CHANNEL_SECRET_PREVIOUS: PREVIOUS_SECRET,
    KOMMO_REQUESTS_PER_SECOND: '1000',
    ADMIN_TOKEN,
    LOG_LEVEL: 'trace',
  }
  await using service = await startService(env)
  await using sender = createWebhookSender(service.url)

  await normalWork(sender)
  await untilReady(service)
  await untilSynced(database.pool)
  await badInput(sender, service.url)
  await kommoRefuses(sender)
  await databaseRefuses(sender)
  await vi.waitFor(() => {
    for (const trace of TRACES) expect(service.output()).toContain(trace)
  }, SOON)
  metrics = await (await fetch(`${service.url}/metrics`)).text()
  const { code } = await service.stop()
  expect(code).toBe(0)
  output = service.output()

  const dataDir = await mkdtemp(join(tmpdir(), 'kommo-sync-'))
  const away = `postgresql://somebody:${DATABASE_PASSWORD}@127.0.0.1:9/nothing`
  const commands = [
    runCommand(['status'], { ...env, DATABASE_URL: away }),
    runCommand(['doctor', '--json'], { ...env, KOMMO_CHANNEL_SECRET: PREVIOUS_SECRET }),
  ]
  // With the database away it serves all the same, until it is told to stop.
  const serving = startCommand(['serve'], {
    ...env,
    DATABASE_URL: away,
    HOST: '127.0.0.1',
    PORT: '0',
    DATA_DIR: dataDir,
  })
  await vi.waitFor(() => expect(serving.stdout()).toContain('listening'), SOON)
  serving.kill('SIGTERM')
  await serving.exited
  output += serving.stdout() + serving.stderr()
  await rm(dataDir, { recursive: true, force: true })
  for (const { stdout, stderr } of await Promise.all(commands)) output += stdout + stderr
}

async function tell(sender: WebhookSender, conversation: Conversation, most = 5): Promise<void> {
  const outgoing = [...conversation.messages()].filter(({ receiver }) => receiver !== null)
  for (const message of outgoing.slice(0, most)) {
    const webhook = kommo.webhooks.message(conversation, message)
    signatures.push(webhook.signature)
    await sender.send(webhook)
  }
}

async function normalWork(sender: WebhookSender): Promise<void> {
  for (const conversation of conversations.slice(0, 4)) {
    await tell(sender, conversation)
    for (const webhook of [
      kommo.webhooks.typing(conversation),
      kommo.webhooks.sign(conversation.scopeId, '{}'),
    ]) {
      signatures.push(webhook.signature)
      await sender.send(webhook)
    }
    const [newest] = conversation.messages()
    if (newest === undefined) continue
    await sender.send(kommo.webhooks.reaction(conversation, newest))
    await sender.send(kommo.webhooks.messageV1(conversation, newest))
  }
}

async function badInput(sender: WebhookSender, url: string): Promise<void> {
  const [, , conversation] = conversations
  if (conversation === undefined) throw new Error('no conversation')
  const [message] = conversation.messages()
  if (message === undefined) throw new Error('no message')
  const webhook = kommo.webhooks.message(conversation, message)
  await sender.send(webhook, { signature: WRONG_SIGNATURE })
  await sender.send(webhook, { signature: null, headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })
  await sender.send(webhook, { scopeInAddress: 'unknown' })
  await sender.send(webhook, { headers: { 'content-type': ';;' } })
  const damaged = webhook.bytes.subarray(0, webhook.bytes.length - 7)
  await sender.send(kommo.webhooks.sign(conversation.scopeId, damaged))
  const big = Buffer.concat([webhook.bytes, Buffer.alloc(1024 * 1024, ' ')])
  await sender.send(kommo.webhooks.sign(conversation.scopeId, big))
  const authorization = `Bearer ${ADMIN_TOKEN}`
  const headers = { authorization, 'content-type': 'application/json' }
  for (const body of ['{not json', '{"scope_id":1}', JSON.stringify({ scope_id: conversation.scopeId })]) {
    await fetch(`${url}/conversations/${conversation.id}/sync`, { method: 'POST', headers, body })
  }
  await fetch(`${url}/conversations/x/sync`, { method: 'POST', headers: { authorization: 'Bearer wrong' } })
}

async function kommoRefuses(sender: WebhookSender): Promise<void> {
  const [, , , , first, second, third] = conversations
  if (first === undefined || second === undefined || third === undefined) throw new Error('no conversation')
  for (const [conversation, ...faults] of [
    [first, { kind: 'status', status: 500 }, { kind: 'wrong-shape', body: { messages: 'Dona Célia' } }],
    [second, { kind: 'cut-off' }, { kind: 'too-many-requests', retryAfter: 1 }],
    [third, { kind: 'unreadable-json' }, { kind: 'forbidden', errorType: 'ACCESS_DENIED' }],
  ] as const) {
    for (const fault of faults) kommo.faults.add({ ...fault, conversationId: conversation.id, times: 1 })
    await tell(sender, conversation, 1)
  }
  await vi.waitFor(() => {
    const { byStatus } = kommo.stats.snapshot()
    expect(Object.keys(byStatus)).toEqual(expect.arrayContaining(['403', '429', '500']))
  }, SOON)
}

/** Postgres quotes the whole row in the detail of such an error. */
async function databaseRefuses(sender: WebhookSender): Promise<void> {
  await database.pool.query(`ALTER TABLE kommo.messages ADD CHECK (text <> '${REFUSED_TEXT}') NOT VALID`)
  await database.pool.query(
    `ALTER TABLE kommo.webhook_events
     ADD CHECK (position(convert_to('${REFUSED_BODY}', 'UTF8') IN body) = 0) NOT VALID`,
  )
  const [, conversation] = conversations
  if (conversation === undefined) throw new Error('no conversation')
  const message = conversation.addMessage({ from: 'manager', text: REFUSED_TEXT })
  const refused = kommo.webhooks.message(conversation, message)
  signatures.push(refused.signature)
  expect((await sender.send(refused)).status).toBe(200)
  const { status } = await sender.send(
    kommo.webhooks.sign(conversation.scopeId, { text: REFUSED_BODY }, { escape: 'utf8' }),
  )
  // What the database refuses is set aside on disk.
  expect(status).toBe(200)
}

/** Everything about people that the simulated Kommo knows. */
function personalStrings(): string[] {
  const known = new Set<string>([REFUSED_TEXT, REFUSED_BODY, 'Dona Célia'])
  for (const conversation of conversations) {
    for (const { text, media, extra } of conversation.truth()) {
      const contact: unknown = extra.history['contact']
      for (const value of [text, media?.url, media?.thumbnailUrl, media?.fileName])
        if (value) known.add(value)
      if (contact !== undefined) for (const value of Object.values(Object(contact))) known.add(String(value))
    }
    for (const { name, phone, email, avatarUrl } of conversation.participants()) {
      for (const value of [name, phone, email, avatarUrl]) if (value !== null) known.add(value)
    }
  }
  return [...known].filter((value) => value.length >= SHORTEST)
}

/** As it stands, as JSON spells it, as PHP spells it, as an address and in hex: where a body could hide. */
function spellings(value: string): string[] {
  const json = JSON.stringify(value).slice(1, -1)
  const php = json.replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  const bytes = Buffer.from(value)
  return [
    value,
    json,
    php,
    JSON.stringify(php).slice(1, -1),
    encodeURIComponent(value),
    bytes.toString('hex'),
  ]
}

function found(values: readonly string[], where: string): string[] {
  return values.filter((value) => spellings(value).some((spelling) => where.includes(spelling)))
}

test('the output holds traces of everything that happened', () => {
  for (const trace of [...TRACES, 'stopped']) expect(output).toContain(trace)
  expect(personalStrings().length).toBeGreaterThan(150)
})

test('no message text, name, phone, e-mail or link stands in the log or the metrics', () => {
  expect(found(personalStrings(), output)).toEqual([])
  expect(found(personalStrings(), metrics)).toEqual([])
})

test('no secret, signature or token stands in the log or the metrics', () => {
  const secrets = [
    kommo.channelSecret,
    PREVIOUS_SECRET,
    ADMIN_TOKEN,
    WRONG_SIGNATURE,
    DATABASE_PASSWORD,
    new URL(database.url).password,
    ...signatures,
  ].filter((secret) => secret.length >= SHORTEST)
  expect(found(secrets, output)).toEqual([])
  expect(found(secrets, metrics)).toEqual([])
})

test('the errors that tables keep for operators quote nothing personal', async () => {
  const { rows } = await database.pool.query<{ why: string }>(
    `SELECT last_error AS why FROM kommo.conversations WHERE last_error IS NOT NULL
     UNION SELECT error FROM kommo.webhook_events WHERE error IS NOT NULL
     UNION SELECT blocked_reason FROM kommo.rate_limits WHERE blocked_reason IS NOT NULL`,
  )
  expect(rows.length).toBeGreaterThan(1)
  expect(found(personalStrings(), rows.map(({ why }) => why).join('\n'))).toEqual([])
})

test('metrics name no conversation, message, person or scope', () => {
  const ids = conversations.flatMap((conversation) => [
    conversation.id,
    conversation.scopeId,
    ...conversation.participants().map(({ id }) => id),
  ])
  expect(found(ids, metrics)).toEqual([])
})
