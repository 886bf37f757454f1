import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, type RequestListener, type ServerResponse, createServer } from 'node:http'
import { type Server, createServer as createTcpServer } from 'node:net'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import { type KommoClient, type KommoClientOptions, createKommoClient } from '../../../src/kommo/client.ts'
import { KommoHttpError, KommoPayloadError, KommoUnreachableError } from '../../../src/kommo/errors.ts'
import { fixture, fixtureBytes } from '../../helpers/fixture.ts'
import { SOON } from '../../helpers/soon.ts'

const CHANNEL = {
  id: '0b1c2d3e-9999-4a99-8a99-000000000001',
  secret: 'the-secret-of-the-channel',
  previousSecret: null,
}
const SCOPE = `${CHANNEL.id}_0b1c2d3e-1111-4a11-8a11-000000000001`
const CONVERSATION = '0b1c2d3e-4444-4a44-8a44-000000000004'
const PAGE = { scopeId: SCOPE, conversationId: CONVERSATION, offset: 0 }
const PRIVATE_TEXT = 'private words of a client'

/** A client that talks to a real server which answers as it is told. */
async function connect(answer: RequestListener, options: Partial<KommoClientOptions> = {}) {
  const server = createServer(answer)
  const sockets = new Set<object>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  const port = await listen(server)
  const client = createKommoClient({ baseUrl: `http://127.0.0.1:${port}`, channels: [CHANNEL], ...options })
  onTestFinished(async () => {
    server.closeAllConnections()
    await client.close()
    server.close()
  })
  return { client, sockets, server }
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}

async function failureOf(client: KommoClient, request: Parameters<KommoClient['getHistoryPage']>[0] = PAGE) {
  const error: unknown = await client.getHistoryPage(request).then(
    () => null,
    (reason: unknown) => reason,
  )
  if (!(error instanceof AppError)) throw new Error('there was no AppError', { cause: error })
  for (const hidden of [CHANNEL.secret, PRIVATE_TEXT, 'limit=', 'offset=']) {
    expect(JSON.stringify([error.message, String(error.cause), error.stack])).not.toContain(hidden)
  }
  return error
}

/** Kommo's check, written down a second time. */
function isSignedWell({ method, url = '', headers }: IncomingMessage, body: Buffer): boolean {
  const md5 = createHash('md5').update(body).digest('hex')
  const text = `${method}\n${md5}\n${headers['content-type']}\n${headers.date}\n${url.replace(/\?.*/, '')}`
  const signature = createHmac('sha1', CHANNEL.secret).update(text).digest('hex')
  return headers['content-md5'] === md5 && headers['x-signature'] === signature
}

function send(
  response: ServerResponse,
  status: number,
  body = '',
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, headers).end(body)
}

function answering(status: number, body = '', headers: Record<string, string> = {}): RequestListener {
  return (_request, response) => send(response, status, body, headers)
}

afterEach(() => vi.restoreAllMocks())

describe('a request', () => {
  test('is signed as Kommo checks it, at the time of the clock that was given', async () => {
    const seen: IncomingMessage[] = []
    const { client } = await connect(
      (request, response) => {
        seen.push(request)
        send(
          response,
          isSignedWell(request, Buffer.alloc(0)) ? 200 : 403,
          fixtureBytes('history-page').toString(),
        )
      },
      { now: () => new Date('2022-12-13T11:00:00Z') },
    )
    const records = await client.getHistoryPage({ ...PAGE, offset: 150 })
    expect(records).toEqual(Object.values(fixture('history-page') ?? {})[0])
    expect(seen[0]).toMatchObject({
      method: 'GET',
      url: `/v2/origin/custom/${SCOPE}/chats/${CONVERSATION}/history?limit=50&offset=150`,
      headers: { date: 'Tue, 13 Dec 2022 11:00:00 +0000', 'content-type': 'application/json' },
    })
  })

  test('escapes ids, and signs the path as it is sent', async () => {
    const urls: (string | undefined)[] = []
    const { client } = await connect((request, response) => {
      urls.push(request.url)
      send(response, isSignedWell(request, Buffer.alloc(0)) ? 204 : 403)
    })
    await expect(client.getHistoryPage({ ...PAGE, conversationId: 'a/../b?c#d é' })).resolves.toEqual([])
    expect(urls[0]).toContain('/chats/a%2F..%2Fb%3Fc%23d%20%C3%A9/history?')
  })

  test.each([
    [undefined, 50],
    [10, 10],
    [500, 50],
    [0, 1],
  ])('for %j records asks for %i', async (limit, asked) => {
    const urls: (string | undefined)[] = []
    const { client } = await connect((request, response) => {
      urls.push(request.url)
      send(response, 204)
    })
    await client.getHistoryPage({ ...PAGE, ...(limit === undefined ? {} : { limit }) })
    expect(urls[0]).toMatch(new RegExp(`limit=${asked}&offset=0$`))
  })

  test('for a scope of an unknown channel is not made', async () => {
    const { client } = await connect(answering(200, '{"messages":[]}'))
    const error = await failureOf(client, { ...PAGE, scopeId: 'other_account' })
    expect(error).toMatchObject({ code: 'unknown_channel', retryable: false })
    expect(error.message).toMatch(/other_account.*KOMMO_CHANNELS/)
  })

  test.each(['', 'a\0', 'a\uD800', 'a'.repeat(1025)])(
    'with an unusable id is not made',
    async (conversationId) => {
      const { client } = await connect(answering(200, '{"messages":[]}'))
      expect(await failureOf(client, { ...PAGE, conversationId })).toMatchObject({
        code: 'unusable_id',
        retryable: false,
      })
    },
  )
})

describe('an answer', () => {
  test.each([
    ['204', 204, ''],
    ['an empty list', 200, '{"messages":[]}'],
  ])('of %s is an empty page', async (_name, status, body) => {
    const { client } = await connect(answering(status, body))
    await expect(client.getHistoryPage(PAGE)).resolves.toEqual([])
  })

  test('keeps numbers that a double cannot hold, and characters that were cut', async () => {
    const body = Buffer.concat([
      Buffer.from('{"messages":[{"n":12345678901234567890,"t":"'),
      Buffer.from([0xff]),
      Buffer.from('"}]}'),
    ])
    const { client } = await connect((_request, response) => response.end(body))
    await expect(client.getHistoryPage(PAGE)).resolves.toEqual([{ n: '12345678901234567890', t: '\uFFFD' }])
  })

  test.each([
    ['nothing', ''],
    ['an empty object', '{}'],
    ['null for messages', '{"messages":null}'],
    ['an object for messages', '{"messages":{}}'],
    ['a list', '[]'],
    ['null', 'null'],
    ['text', PRIVATE_TEXT],
    ['JSON that ends early', `{"messages":[{"text":"${PRIVATE_TEXT}`],
  ])('200 with %s is no history', async (_name, body) => {
    const { client } = await connect(answering(200, body))
    const error = await failureOf(client)
    expect(error).toBeInstanceOf(KommoPayloadError)
    expect(error).toMatchObject({ code: 'kommo_payload', retryable: true })
    expect(error.message).toContain(CONVERSATION)
  })

  test('of another success is no history', async () => {
    const { client } = await connect(answering(202, '{"messages":[]}'))
    expect(await failureOf(client)).toBeInstanceOf(KommoPayloadError)
  })

  test('larger than the bound is not read to its end', async () => {
    let written = 0
    const { client, sockets } = await connect(
      (_request, response) => {
        const more = () => {
          while (!response.destroyed && response.write(' '.repeat(1000))) written += 1000
        }
        response.on('drain', more)
        more()
      },
      { maxBodyBytes: 10_000 },
    )
    expect(await failureOf(client)).toBeInstanceOf(KommoPayloadError)
    await vi.waitUntil(() => sockets.size === 0, SOON)
    expect(written).toBeLessThan(50_000_000)
  })

  test('exactly as large as the bound is read', async () => {
    const body = '{"messages":[1]}'
    const { client } = await connect(answering(200, body), { maxBodyBytes: body.length })
    await expect(client.getHistoryPage(PAGE)).resolves.toEqual([1])
  })
})

describe('a refusal', () => {
  const invalidSignature = fixtureBytes('error-invalid-signature').toString()
  const refusal = (type: string) => JSON.stringify({ error_type: type, error_description: PRIVATE_TEXT })

  test.each([
    ['a wrong signature', 403, invalidSignature, 'ORIGIN_INVALID_SIGNATURE', true, true],
    ['403 without a readable body', 403, `<html>${PRIVATE_TEXT}</html>`, null, true, true],
    ['403 without a body', 403, '', null, true, true],
    ['403 for another reason', 403, refusal('ACCESS_DENIED'), 'ACCESS_DENIED', false, false],
    ['400', 400, refusal('BAD_REQUEST'), 'BAD_REQUEST', false, false],
    ['an error type that is no token', 400, refusal(PRIVATE_TEXT), null, false, false],
    ['404', 404, '', null, false, false],
    ['410', 410, '', null, false, false],
    ['408', 408, '', null, true, false],
    ['429', 429, '', null, true, true],
    ['500', 500, PRIVATE_TEXT.repeat(10_000), null, true, false],
    ['502', 502, '<html>', null, true, false],
    ['503', 503, '', null, true, false],
  ])('%s', async (_name, status, body, errorType, retryable, channelFault) => {
    const { client } = await connect(answering(status, body))
    const error = await failureOf(client)
    expect(error).toBeInstanceOf(KommoHttpError)
    expect(error).toMatchObject({ code: 'kommo_http', status, errorType, retryable, channelFault })
    expect(error.retryAfterMs).toBeUndefined()
    expect(error.message).toMatch(new RegExp(`${status}.*${CONVERSATION}.*${SCOPE}`))
  })

  test('for a wrong signature says what to check', async () => {
    const { client } = await connect(answering(403, invalidSignature))
    expect((await failureOf(client)).message).toMatch(/KOMMO_CHANNEL_SECRET and the clock/)
  })

  test.each([
    [429, '7', 7000],
    [429, '0', 0],
    [503, '1.5', 1500],
    [429, '86400', 3_600_000],
    [429, 'Tue, 13 Dec 2022 11:00:30 GMT', 30_000],
    [503, 'Tuesday, 13-Dec-22 11:01:00 GMT', 60_000],
    [429, 'Tue, 13 Dec 2022 10:00:00 GMT', 0],
    [429, 'Wed, 13 Dec 2023 11:00:00 GMT', 3_600_000],
    [429, 'soon', undefined],
    [429, '-5', undefined],
    [429, '', undefined],
    [500, '7', undefined],
    [400, '7', undefined],
  ])('%i with Retry-After %j waits for %j ms', async (status, retryAfter, retryAfterMs) => {
    const { client } = await connect(answering(status, '', { 'retry-after': retryAfter }), {
      now: () => new Date('2022-12-13T11:00:00Z'),
    })
    expect((await failureOf(client)).retryAfterMs).toBe(retryAfterMs)
  })

  test('a redirect is not followed', async () => {
    let requests = 0
    const { client } = await connect((_request, response) => {
      requests += 1
      send(response, 302, '', { location: '/elsewhere' })
    })
    expect(await failureOf(client)).toMatchObject({ status: 302, retryable: false, channelFault: false })
    expect(requests).toBe(1)
  })
})

describe('no answer', () => {
  test.each<[string, RequestListener]>([
    ['headers do not come', () => {}],
    ['the body stops', (_request, response) => void response.write('{"messages":[')],
    [
      'the body comes drop by drop',
      (_request, response) => {
        const timer = setInterval(() => response.write(' '), 20)
        response.on('close', () => clearInterval(timer))
      },
    ],
  ])('in time: %s', async (_name, answer) => {
    const { client, sockets } = await connect(answer, { timeoutMs: 200 })
    const error = await failureOf(client)
    expect(error).toBeInstanceOf(KommoUnreachableError)
    expect(error).toMatchObject({ code: 'kommo_unreachable', retryable: true })
    await vi.waitUntil(() => sockets.size === 0, SOON)
  })

  test.each<[string, RequestListener]>([
    ['before the headers', (request) => request.socket.destroy()],
    [
      'in the middle of the body',
      (request, response) => {
        response.writeHead(200, { 'content-length': '100' })
        response.write('{"messages":[', () => request.socket.destroy())
      },
    ],
    [
      'in the middle of a chunked body',
      (request, response) => {
        response.write(`{"messages":[{"text":"${PRIVATE_TEXT}"}]}`, () => request.socket.destroy())
      },
    ],
    ['by something that is not HTTP', (request) => request.socket.end(`${PRIVATE_TEXT}\r\n\r\n`)],
  ])('is what a connection gives that is cut off %s', async (_name, answer) => {
    const { client } = await connect(answer)
    const error = await failureOf(client)
    expect(error).toBeInstanceOf(KommoUnreachableError)
    expect(error).toMatchObject({ retryable: true })
  })

  test('comes from a port where nobody listens', async () => {
    const server = createTcpServer()
    const port = await listen(server)
    server.close()
    await once(server, 'close')
    const client = createKommoClient({ baseUrl: `http://127.0.0.1:${port}`, channels: [CHANNEL] })
    const error = await failureOf(client)
    await client.close()
    expect(error).toBeInstanceOf(KommoUnreachableError)
    expect(error.message).toContain('ECONNREFUSED')
  })
})

describe('onLeave', () => {
  test('is called when the connection is there, before anything of the request leaves', async () => {
    const seen: string[] = []
    const { client, sockets } = await connect((_request, response) => {
      seen.push('request')
      send(response, 204)
    })
    await client.getHistoryPage({ ...PAGE, onLeave: () => seen.push(`leaves by ${sockets.size} connection`) })
    expect(seen).toEqual(['leaves by 1 connection', 'request'])
  })

  test('ends the request with what it throws; nothing has left, and the connection serves the next one', async () => {
    let requests = 0
    let connections = 0
    const { client, server } = await connect((_request, response) => {
      requests += 1
      send(response, 204)
    })
    server.on('connection', () => (connections += 1))
    const late = new AppError('too late', { code: 'late', retryable: true })
    const onLeave = () => {
      throw late
    }
    await expect(client.getHistoryPage({ ...PAGE, onLeave })).rejects.toBe(late)
    expect(await client.getHistoryPage(PAGE)).toEqual([])
    expect({ requests, connections }).toEqual({ requests: 1, connections: 1 })
  })
})

describe('an abort', () => {
  test('before the request sends nothing', async () => {
    let requests = 0
    const { client } = await connect((_request, response) => {
      requests += 1
      send(response, 204)
    })
    const reason = new Error('stopping')
    await expect(client.getHistoryPage({ ...PAGE, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(requests).toBe(0)
  })

  test.each([false, true])('ends a request under way with its own reason (body begun: %j)', async (begun) => {
    const stopping = new AbortController()
    const reason = new Error('stopping')
    const { client, sockets } = await connect((_request, response) => {
      if (begun) response.write('{"messages":[', () => stopping.abort(reason))
      else stopping.abort(reason)
    })
    await expect(client.getHistoryPage({ ...PAGE, signal: stopping.signal })).rejects.toBe(reason)
    await vi.waitUntil(() => sockets.size === 0, SOON)
  })
})

test('failures of every kind leave no connection behind, and the client goes on working', async () => {
  let failing = true
  const kinds: RequestListener[] = [
    answering(500, 'x'.repeat(100_000)),
    answering(403, fixtureBytes('error-invalid-signature').toString()),
    answering(404),
    answering(302, '', { location: '/' }),
    answering(200, '{'),
    (request) => request.socket.destroy(),
    (_request, response) => void response.write('{"messages":[', () => response.destroy()),
  ]
  let requests = 0
  const { client, sockets } = await connect((request, response) => {
    requests += 1
    if (failing) return kinds[requests % kinds.length]?.(request, response)
    return send(response, 200, '{"messages":[1]}')
  })
  let mostSockets = 0
  for (let round = 0; round < 210; round += 1) {
    await failureOf(client)
    mostSockets = Math.max(mostSockets, sockets.size)
  }
  failing = false
  await expect(client.getHistoryPage(PAGE)).resolves.toEqual([1])
  expect(requests).toBe(211)
  expect(mostSockets).toBeLessThanOrEqual(3)
})

test('close waits for the request under way, and then nothing more is sent', async () => {
  const { promise: asked, resolve: finish } = Promise.withResolvers<void>()
  const { client, sockets } = await connect((_request, response) => {
    setImmediate(() => send(response, 200, '{"messages":[1]}'))
    finish()
  })
  const page = client.getHistoryPage(PAGE)
  await asked
  await client.close()
  await expect(page).resolves.toEqual([1])
  await vi.waitUntil(() => sockets.size === 0, SOON)
  expect(await failureOf(client)).toBeInstanceOf(KommoUnreachableError)
})
