import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { startOwnPostgres } from '../helpers/own-postgres.ts'
import { keptBodies } from '../helpers/kept-bodies.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { showFigures } from '../helpers/soak.ts'
import { untilSynced } from '../helpers/synced.ts'
import { createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

const GRACE_MS = 10_000

let kommo: SimulatedKommo
let database: TestDatabase

beforeEach(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
})
afterEach(async () => {
  await kommo.close()
  await database.drop()
})

const start = (env: Record<string, string> = {}) =>
  startService({
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '1000',
    RECONCILE_INTERVAL: '0',
    ...env,
  })

function webhooksOf(conversation: Conversation): SignedWebhook[] {
  return [...conversation.messages()]
    .filter(({ receiver }) => receiver !== null)
    .map((message) => kommo.webhooks.message(conversation, message))
}

function firstWebhook(conversation: Conversation): SignedWebhook {
  const [webhook] = webhooksOf(conversation)
  if (webhook === undefined) throw new Error('no webhook')
  return webhook
}

const untilStopping = (service: RunningService) =>
  vi.waitFor(() => expect(service.log().map(({ msg }) => msg)).toContain('stopping'), {
    ...SOON,
    interval: 5,
  })

/** A webhook of which half has been sent: a request in flight for as long as the test likes. */
async function halfSent({ url }: RunningService, { scopeId, bytes, signature }: SignedWebhook) {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  const answers = text(socket).catch(() => '')
  const middle = Math.floor(bytes.length / 2)
  await new Promise((resolve) => {
    socket.write(
      `POST /webhooks/kommo/${scopeId} HTTP/1.1\r\nHost: x\r\nX-Signature: ${signature}\r\n` +
        `Content-Length: ${bytes.length}\r\n\r\n`,
    )
    socket.write(bytes.subarray(0, middle), resolve)
  })
  return {
    /** What the service says on this connection until it ends. */
    answers,
    finishAnd: (request: string) =>
      socket.write(Buffer.concat([bytes.subarray(middle), Buffer.from(request)])),
  }
}

const walkOf = (conversation: Conversation, pages: number) =>
  vi.waitFor(() => expect(kommo.stats.historyRequestsOf(conversation.id)).toBeGreaterThanOrEqual(pages), {
    ...SOON,
    interval: 5,
  })

describe('after SIGTERM', () => {
  test('/readyz turns 503, a request in flight is answered and kept, and the end is 0', async () => {
    await using service = await start({ ROLE: 'receiver' })
    const webhook = firstWebhook(kommo.conversations.generate({ messages: 20, seed: 'in flight' }))
    const request = await halfSent(service, webhook)
    await untilReady(service)
    process.kill(service.pid, 'SIGTERM')
    await untilStopping(service)
    request.finishAnd('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n')
    const answers = await request.answers
    expect(answers).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(answers).toContain('{"status":"accepted"}')
    expect(await service.exited).toEqual({ code: 0, signal: null })
    expect(await keptBodies(database.pool, service)).toEqual([webhook.bytes.toString('hex')])
    expect(answers).toMatch(/HTTP\/1\.1 503 /)
  })

  test('it ends with 0 also where the reader of its log went away, and serves until then', async () => {
    await using service = await start({ LOG_LEVEL: 'trace' })
    service.stopReading()
    await using sender = createWebhookSender(service.url)
    const webhook = firstWebhook(kommo.conversations.generate({ messages: 20, seed: 'no reader' }))
    expect((await sender.send(webhook)).status).toBe(200)
    expect(await service.stop()).toEqual({ code: 0, signal: null })
    expect(await keptBodies(database.pool, service)).toContain(webhook.bytes.toString('hex'))
  })

  test('errors that nobody handles end it with 1, also where there is no reader for its last words', async () => {
    await using service = await start({ NODE_OPTIONS: '--import=./test/helpers/throw-on-signal.ts' })
    service.stopReading()
    process.kill(service.pid, 'SIGUSR2')
    expect(await service.exited).toEqual({ code: 1, signal: null })
  })

  test('under load it ends with 0 in time: everything answered is kept, and nobody has a claim', async () => {
    await using service = await start()
    const conversations = Array.from({ length: 40 }, (_, n) =>
      kommo.conversations.generate({ messages: 300, seed: `load ${n}` }),
    )
    kommo.faults.setLatency(50)
    await using sender = createWebhookSender(service.url, { connections: 32 })
    const acknowledged: string[] = []
    let signalledAt = 0
    const ended = service.exited.then((exit) => ({ exit, at: performance.now() }))
    await forEachAtOnce(conversations.flatMap(webhooksOf), 32, async (webhook) => {
      if (acknowledged.length >= 500 && signalledAt === 0) {
        signalledAt = performance.now()
        process.kill(service.pid, 'SIGTERM')
      }
      const { status } = await sender.send(webhook).catch(() => ({ status: 0 }))
      if (status === 200) acknowledged.push(webhook.bytes.toString('hex'))
    })
    const { exit, at } = await ended
    expect(exit).toEqual({ code: 0, signal: null })
    showFigures({ endedUnderLoadInMs: at - signalledAt })
    expect(at - signalledAt).toBeLessThan(GRACE_MS)
    expect((await keptBodies(database.pool, service)).toSorted()).toEqual(acknowledged.toSorted())
    const { rows } = await database.pool.query(
      `SELECT count(*)::int AS left, count(claim_id)::int AS claimed, count(*) FILTER (WHERE attempts > 0)::int AS failed
       FROM kommo.conversations WHERE requested > processed`,
    )
    expect(rows).toEqual([{ left: expect.any(Number), claimed: 0, failed: 0 }])
  })

  // A machine that is busy with other tests may be slow once.
  test('another replica goes on with the walk where it was, within a second', { retry: 2 }, async () => {
    const conversation = kommo.conversations.generate({ messages: 3_000, seed: 'handed over' })
    kommo.faults.setLatency(30)
    const [leaving, staying] = await Promise.all([start({ ROLE: 'worker' }), start({ ROLE: 'worker' })])
    await using _leaving = leaving
    await using _staying = staying
    // Nobody but the one that leaves may begin.
    process.kill(staying.pid, 'SIGSTOP')
    await using receiver = await start({ ROLE: 'receiver' })
    await using sender = createWebhookSender(receiver.url)
    await sender.send(firstWebhook(conversation))
    await walkOf(conversation, 4)
    process.kill(staying.pid, 'SIGCONT')
    await walkOf(conversation, 8)

    const signalledAt = Date.now()
    expect(await leaving.stop('SIGTERM')).toEqual({ code: 0, signal: null })
    const asked = kommo.stats.historyRequestsOf(conversation.id)
    await walkOf(conversation, asked + 1)
    const next = kommo.stats.recent().filter(({ conversationId }) => conversationId === conversation.id)[
      asked
    ]
    const tookMs = (next?.at.getTime() ?? Number.POSITIVE_INFINITY) - signalledAt
    showFigures({ handedOverInMs: tookMs })
    expect(tookMs).toBeLessThan(1000)
    await untilSynced(database.pool)
    // The page in hand was stored: nothing was asked for twice.
    const pages = Math.floor((conversation.size - 1) / 49) + 1
    expect(kommo.stats.historyRequestsOf(conversation.id)).toBeLessThanOrEqual(pages + 1)
  })

  test('a client that never finishes its request holds up neither the claims nor the end', async () => {
    const conversation = kommo.conversations.generate({ messages: 3_000, seed: 'held up' })
    kommo.faults.setLatency(30)
    await using service = await start()
    await using sender = createWebhookSender(service.url)
    await sender.send(firstWebhook(conversation))
    await walkOf(conversation, 2)
    await halfSent(service, firstWebhook(conversation))
    await untilReady(service)

    const signalledAt = performance.now()
    process.kill(service.pid, 'SIGTERM')
    await vi.waitFor(
      async () => {
        const { rows } = await database.pool.query('SELECT claim_id FROM kommo.conversations')
        expect(rows).toEqual([{ claim_id: null }])
      },
      { timeout: 3000, interval: 20 },
    )
    expect(await service.exited).toEqual({ code: 0, signal: null })
    expect(performance.now() - signalledAt).toBeLessThan(GRACE_MS)
  })

  test('webhooks are still taken while /readyz sends them elsewhere, for DRAIN_DELAY', async () => {
    await using service = await start({ DRAIN_DELAY: '4s' })
    const conversation = kommo.conversations.generate({ messages: 100, seed: 'draining' })
    process.kill(service.pid, 'SIGTERM')
    const signalledAt = performance.now()
    await vi.waitFor(async () => expect((await fetch(`${service.url}/readyz`)).status).toBe(503), {
      ...SOON,
      interval: 5,
    })
    const accepted: SignedWebhook[] = []
    for (const webhook of webhooksOf(conversation).slice(0, 5)) {
      const answer = await fetch(`${service.url}/webhooks/kommo/${webhook.scopeId}`, {
        method: 'POST',
        headers: { 'x-signature': webhook.signature },
        body: webhook.bytes,
      })
      expect(answer.status).toBe(200)
      // A proxy that keeps connections open comes again over a new one.
      expect(answer.headers.get('connection')).toBe('close')
      accepted.push(webhook)
    }
    expect(await service.exited).toEqual({ code: 0, signal: null })
    expect(performance.now() - signalledAt).toBeGreaterThan(3900)
    expect(await keptBodies(database.pool, service)).toEqual(
      accepted.map(({ bytes }) => bytes.toString('hex')),
    )
    // What it took last is for others to read, or for itself later.
    const { rows } = await database.pool.query('SELECT claim_id FROM kommo.conversations')
    expect(rows).toEqual([{ claim_id: null }])
  })

  test('a database that does not answer any more does not keep it from ending with 0, in time', async () => {
    await using postgres = await startOwnPostgres()
    await using service = await start({ DATABASE_URL: postgres.url })
    const conversation = kommo.conversations.generate({ messages: 2_000, seed: 'hung' })
    kommo.faults.setLatency(20)
    await using sender = createWebhookSender(service.url)
    await sender.send(firstWebhook(conversation))
    await walkOf(conversation, 3)
    await postgres.freeze()
    const signalledAt = performance.now()
    process.kill(service.pid, 'SIGTERM')
    expect(await service.exited).toEqual({ code: 0, signal: null })
    expect(performance.now() - signalledAt).toBeLessThan(GRACE_MS)
  })

  test.each(['SIGTERM', 'SIGINT'] as const)('a second signal (%s) ends at once, with 1', async (signal) => {
    const conversation = kommo.conversations.generate({ messages: 20, seed: `twice ${signal}` })
    kommo.faults.add({ kind: 'slow-headers', delayMs: 60_000, conversationId: conversation.id })
    await using service = await start()
    await using sender = createWebhookSender(service.url)
    await sender.send(firstWebhook(conversation))
    await walkOf(conversation, 1)
    // Alone it would wait for the page in hand.
    process.kill(service.pid, 'SIGTERM')
    await untilStopping(service)
    const secondAt = performance.now()
    expect(await service.stop(signal)).toEqual({ code: 1, signal: null })
    expect(performance.now() - secondAt).toBeLessThan(2000)
  })
})
