import { createHmac } from 'node:crypto'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { fixtureBytes } from '../helpers/fixture.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { forEachAtOnce } from '../helpers/webhook-sender.ts'

const REQUESTS = 10_000
const BATCH = 100
const AT_ONCE = 16
const MIB = 1024 * 1024

let kommo: SimulatedKommo
let database: TestDatabase
let service: RunningService
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  service = await startService({
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '10000',
  })
})

afterAll(async () => {
  agent.destroy()
  await service?.stop()
  await database?.drop()
  await kommo?.close()
})

interface Attempt {
  /** As it stands in the address, already encoded. */
  scope: string
  body: Buffer
  signature: 'right' | 'right, in upper case' | { header: string | null }
  contentType: string | null
  chunked: boolean
}

const ids = [
  'conversation-1',
  'conversation-2',
  '30477717-9f3c-4d3f-8101-60327e14dc48',
  '',
  '\0',
  '\u{d83d}',
  '🙂',
  '../../etc',
  '__proto__',
  '�',
  "'; DROP TABLE kommo.messages; --",
  'i'.repeat(1_024),
  'i'.repeat(1_025),
]

/** What JSON can spell and few expect. `raw` pieces are put into the text as they are. */
const oddNumbers = [
  '1e400',
  '-1e400',
  '123456789012345678901234567890',
  '1e-400',
  '-0',
  '0.1e1',
  '9007199254740993',
]
const oddStrings = [
  String.raw`"\u0000"`,
  String.raw`"\ud800"`,
  String.raw`"\udc00\ud800"`,
  '"\u2028"',
  '"__proto__"',
]

const oddValue = fc.oneof(
  fc.constantFrom(...oddNumbers, ...oddStrings, 'null', 'true', '[]', '{}', '""', '0'),
  fc.string({ unit: 'binary', maxLength: 40 }).map((value) => JSON.stringify(value)),
  fc.json({ maxDepth: 4 }),
  fc.integer({ min: 1, max: 3_000 }).map((depth) => '['.repeat(depth) + ']'.repeat(depth)),
  fc.integer({ min: 1, max: 300 }).map((depth) => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth)),
)

const oddId = fc.constantFrom(...ids).map((id) => JSON.stringify(id))
const oddKey = fc.constantFrom(
  '__proto__',
  'constructor',
  'toString',
  'text',
  'time',
  String.raw`\u0000`,
  '🙂',
  '',
)

/** A message webhook in which any field may be anything. */
const oddMessage = fc
  .record({
    account: fc.oneof(fc.constant(JSON.stringify('52fd2a28-d2eb-4bd8-b862-a67934927b38')), oddId, oddValue),
    conversation: fc.oneof({ weight: 3, arbitrary: oddId }, { weight: 1, arbitrary: oddValue }),
    id: fc.oneof(
      fc.uuid().map((id) => JSON.stringify(id)),
      oddId,
      oddValue,
    ),
    time: oddValue,
    sender: fc.oneof(
      oddId.map((id) => `{"id":${id},"name":"Ana"}`),
      oddValue,
    ),
    receiver: fc.oneof(
      oddId.map((id) => `{"id":${id},"phone":5}`),
      oddValue,
    ),
    key: oddKey,
    value: oddValue,
    type: oddValue,
    text: oddValue,
    media: fc.oneof(fc.constant('"https://files.example/x"'), oddValue),
    size: oddValue,
  })
  .map(
    (
      o,
    ) => `{"account_id":${o.account},"time":${o.time},"${o.key}":${o.value},"message":{"conversation":{"id":${o.conversation},
      "client_id":${o.value}},"sender":${o.sender},"receiver":${o.receiver},"timestamp":${o.time},"msec_timestamp":${o.time},
      "${o.key}":${o.value},"message":{"id":${o.id},"type":${o.type},"text":${o.text},"media":${o.media},"file_size":${o.size},
      "media_group_id":${o.value},"${o.key}":${o.value}}}}`,
  )

const oddAction = fc
  .record({
    name: fc.constantFrom('typing', 'reaction', 'pinned', '__proto__'),
    conversation: oddId,
    value: oddValue,
  })
  .map(
    ({ name, conversation, value }) =>
      `{"action":{"${name}":{"conversation":{"id":${conversation}},"msgid":${value}}}}`,
  )

const fixtures = [
  'webhook-voice',
  'webhook-list-message',
  'webhook-reaction',
  'webhook-reaction-msgid',
  'webhook-forward',
  'webhook-typing',
  'webhook-message-v1',
  'webhook-picture',
  'webhook-text',
].map((name) => fixtureBytes(name))

/** A real webhook with bytes overwritten, cut off or doubled. */
const damaged = fc
  .record({
    original: fc.constantFrom(...fixtures),
    places: fc.array(fc.record({ at: fc.nat(2_000), byte: fc.nat(255) }), { maxLength: 4 }),
    keep: fc.option(fc.nat(2_000), { freq: 3 }),
    twice: fc.boolean(),
  })
  .map(({ original, places, keep, twice }) => {
    const bytes = Buffer.from(keep === null ? original : original.subarray(0, keep))
    for (const { at, byte } of places) if (bytes.length > 0) bytes[at % bytes.length] = byte
    return twice ? Buffer.concat([bytes, bytes]) : bytes
  })

const body = fc.oneof(
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 2, arbitrary: fc.json({ noUnicodeString: false }).map((json) => Buffer.from(json)) },
  { weight: 2, arbitrary: oddValue.map((json) => Buffer.from(json)) },
  { weight: 6, arbitrary: oddMessage.map((json) => Buffer.from(json)) },
  { weight: 2, arbitrary: oddAction.map((json) => Buffer.from(json)) },
  { weight: 5, arbitrary: damaged },
  { weight: 1, arbitrary: fc.constantFrom(Buffer.alloc(0), Buffer.from('\n'), Buffer.from('\u{feff}{}')) },
)

const headerText = fc.string({ unit: fc.constantFrom(...'0123456789abcdefABCDEFxyz ,;=/"*é'), maxLength: 60 })

const attempt: fc.Arbitrary<Attempt> = fc.record({
  body,
  scope: fc.oneof(
    { weight: 8, arbitrary: fc.constant('right') },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        'right/',
        'right?x=1',
        'channel',
        'channel_',
        'channel_%00',
        'channel_%F0%9F',
      ),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom('_', '%', '%00', '..', '%2e%2e', '%F0', '__proto__', 'x'.repeat(5_000)),
    },
    {
      weight: 1,
      arbitrary: fc.string({ maxLength: 80 }).map((scope) => encodeURIComponent(scope.toWellFormed())),
    },
  ),
  signature: fc.oneof(
    { weight: 6, arbitrary: fc.constant('right' as const) },
    { weight: 1, arbitrary: fc.constant('right, in upper case' as const) },
    { weight: 1, arbitrary: fc.constant({ header: null }) },
    { weight: 2, arbitrary: headerText.map((header) => ({ header })) },
    { weight: 1, arbitrary: fc.constantFrom('0', 'a').map((digit) => ({ header: digit.repeat(40) })) },
  ),
  contentType: fc.oneof(
    { weight: 4, arbitrary: fc.constant('application/json') },
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        null,
        'text/plain',
        'application/x-www-form-urlencoded',
        'multipart/form-data; boundary=x',
        'application/json; charset=utf-16',
        'application/octet-stream',
        'application/problem+json;a="b;c"',
      ),
    },
  ),
  chunked: fc.boolean(),
})

/** The scope of the address with the right channel put in. */
function addressed({ scope }: Attempt): string {
  return scope.replace(/^right/, kommo.scopeId).replace(/^channel/, kommo.channelId)
}

function isSigned({ signature }: Attempt): boolean {
  return typeof signature === 'string'
}

/** The address is readable and names the channel: then what is signed has to be kept. */
function reachesChannel(scope: string): boolean {
  if (scope.length > 4_096) return false
  try {
    return decodeURIComponent(scope.split('?')[0] ?? '').startsWith(kommo.channelId) && !scope.includes('/')
  } catch {
    return false
  }
}

interface Reply {
  status: number
  body: string
}

function send({ scope, body: bytes, signature, contentType, chunked }: Attempt): Promise<Reply> {
  const right = createHmac('sha1', kommo.channelSecret).update(bytes).digest('hex')
  const header =
    typeof signature === 'object' ? signature.header : signature === 'right' ? right : right.toUpperCase()
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `${service.url}/webhooks/kommo/${scope}`,
      {
        agent,
        method: 'POST',
        path: `/webhooks/kommo/${scope}`,
        headers: {
          ...(contentType === null ? {} : { 'content-type': contentType }),
          ...(header === null ? {} : { 'x-signature': header }),
          ...(chunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': bytes.length }),
        },
      },
      (response) => {
        buffer(response).then(
          (answer) => resolve({ status: response.statusCode ?? 0, body: answer.toString() }),
          reject,
        )
      },
    )
    outgoing.on('error', reject)
    if (chunked)
      for (let at = 0; at < bytes.length; at += 1_000) outgoing.write(bytes.subarray(at, at + 1_000))
    outgoing.end(chunked ? undefined : bytes)
  })
}

/** Bytes, as hex, of everything that was accepted. */
const accepted: string[] = []
const statuses = new Map<number, number>()

async function check(made: Attempt): Promise<void> {
  const scope = addressed(made)
  const reply = await send({ ...made, scope })
  statuses.set(reply.status, (statuses.get(reply.status) ?? 0) + 1)
  if (reply.status === 200) accepted.push(made.body.toString('hex'))
  if (isSigned(made) && reachesChannel(scope)) {
    expect(reply).toEqual({ status: 200, body: '{"status":"accepted"}' })
    return
  }
  expect([400, 401, 404, 414]).toContain(reply.status)
}

test(`${REQUESTS} requests of every shape: what is signed is accepted, nothing else is, and nothing fails`, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(attempt, { minLength: BATCH, maxLength: BATCH, size: 'max' }),
      async (attempts) => {
        await forEachAtOnce(attempts, AT_ONCE, check)
      },
    ),
    { numRuns: REQUESTS / BATCH, endOnFailure: true },
  )
  process.stdout.write(`bad input: answers by status ${JSON.stringify(Object.fromEntries(statuses))}\n`)
})

test('a content type that is none does not make a signed webhook unwelcome', async () => {
  const types = [
    '',
    ' ',
    'garbage',
    ';',
    '/',
    'application/',
    'json',
    'application/json; charset',
    'é',
    ',',
    '*',
  ]
  for (const contentType of types) {
    const made: Attempt = {
      scope: 'right',
      body: Buffer.from(`{"type":${JSON.stringify(contentType)}}`),
      signature: 'right',
      contentType,
      chunked: false,
    }
    await expect(check(made), `content type ${JSON.stringify(contentType)}`).resolves.toBeUndefined()
  }
})

test.each([
  [MIB - 1, 200],
  [MIB, 200],
  [MIB + 1, 413],
  [2 * MIB, 413],
])('%i bytes are answered %i, chunked or not, whatever they are', async (size, status) => {
  for (const chunked of [false, true]) {
    for (const filler of ['[', ' ', '1', 'é']) {
      const bytes = Buffer.from(filler.repeat(Math.ceil(size / Buffer.byteLength(filler)))).subarray(0, size)
      const scope = kommo.scopeId
      const made: Attempt = {
        scope,
        body: bytes,
        signature: 'right',
        contentType: 'application/json',
        chunked,
      }
      // A server that refuses a body before its end closes the connection, and who still writes may lose the answer.
      const reply = await vi.waitFor(() => send(made), SOON)
      expect(reply.status).toBe(status)
      if (reply.status === 200) accepted.push(bytes.toString('hex'))
    }
  }
})

test.each([
  ['no HTTP at all', 'hello\r\n\r\n'],
  ['a length that is a word', 'POST /webhooks/kommo/x HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n'],
  [
    'two lengths',
    'POST /webhooks/kommo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
  ],
  [
    'a chunk size that is none',
    'POST /webhooks/kommo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  ],
  [
    'a header of 100 kB',
    `POST /webhooks/kommo/x HTTP/1.1\r\nHost: x\r\nX-Signature: ${'a'.repeat(100_000)}\r\n\r\n`,
  ],
  ['control characters', 'POST /webhooks/kommo/\u0001 HTTP/1.1\r\nHost: x\r\nX: \u0002\r\n\r\n'],
])('bytes that are no request are answered 4xx or cut off: %s', async (_name, bytes) => {
  const { hostname, port } = new URL(service.url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  socket.write(bytes, 'latin1')
  const answer = await text(socket).catch(() => '')
  expect(answer).toMatch(/^$|^HTTP\/1\.1 4\d\d /)
})

test('a request that is cut off in its body is not stored', async () => {
  const bytes = Buffer.from('{"cut":"off"}')
  const right = createHmac('sha1', kommo.channelSecret).update(bytes).digest('hex')
  const { hostname, port } = new URL(service.url)
  const socket = connect(Number(port), hostname)
  socket.write(
    `POST /webhooks/kommo/${kommo.scopeId} HTTP/1.1\r\nHost: x\r\nX-Signature: ${right}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${bytes.length + 1}\r\n\r\n${bytes.toString()}`,
  )
  socket.end()
  expect(await text(socket).catch(() => '')).toMatch(/^$|^HTTP\/1\.1 4\d\d /)
})

test('afterwards everything accepted is in the inbox byte for byte, and nothing more', async () => {
  await untilReady(service)
  const { rows } = await database.pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
  const stored = rows.map((row) => row.body.toString('hex')).toSorted()
  const sent = accepted.toSorted()
  expect(stored.length).toBe(sent.length)
  expect(stored.filter((bytes, index) => bytes !== sent[index])).toEqual([])
})

test('afterwards the service is alive and ready, and has logged no error of its own', async () => {
  expect((await fetch(`${service.url}/healthz`)).status).toBe(200)
  await untilReady(service)
  // A signed webhook may name an account that Kommo does not know: the read is answered 404 and given up, rightly.
  // And a machine that is busy for most of a second sends webhooks to the disk.
  const expected = ['a sync is given up', 'the database is away']
  const failed = service
    .log()
    .filter(
      ({ level, msg }) =>
        level === 'fatal' || (level === 'error' && !expected.some((start) => msg?.startsWith(start))),
    )
  expect(failed.slice(0, 5)).toEqual([])
})

test('afterwards every webhook is handled, and no conversation is behind that Kommo knows', async () => {
  const { rows } = await vi.waitFor(
    async () => {
      const left = await database.pool.query(
        `SELECT 'webhook ' || id AS what, error AS why FROM kommo.webhook_events WHERE processed_at IS NULL
         UNION ALL SELECT 'conversation ' || left(id, 40), last_error FROM kommo.conversations
         WHERE requested > processed AND dead_at IS NULL`,
      )
      expect(left.rows.slice(0, 5)).toEqual([])
      return database.pool.query<{ last_error: string }>(
        'SELECT last_error FROM kommo.conversations WHERE dead_at IS NOT NULL',
      )
    },
    { timeout: 200_000, interval: 100 },
  )
  for (const { last_error: why } of rows) expect(why).toContain('Kommo answered 404')
})

test('the errors of webhooks never quote a body', async () => {
  const { rows } = await database.pool.query<{ error: string; n: number }>(
    'SELECT error, count(*)::int AS n FROM kommo.webhook_events WHERE error IS NOT NULL GROUP BY error ORDER BY error',
  )
  // A text that quoted anything would come in as many forms as there were bodies.
  expect(rows.length).toBeLessThan(20)
  for (const { error } of rows) {
    expect(error).toMatch(/^[A-Za-z0-9 ,.:;()"'_-]{5,250}$/)
    expect(error).not.toMatch(/Ana|files\.example|DROP TABLE|conversation-1/)
  }
})
