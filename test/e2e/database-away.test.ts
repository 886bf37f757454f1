import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { type OwnPostgres, startOwnPostgres } from '../helpers/own-postgres.ts'
import { logLines, startCommand, startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { createWebhookSender } from '../helpers/webhook-sender.ts'
import { type Delivery, answerTimeMs, countOvertaken, streamWebhooks } from '../helpers/webhook-stream.ts'

/** The long form is for a quiet machine: `SOAK=1`. */
const SOAK = process.env['SOAK'] === '1'
const LOAD = SOAK ? { perSecond: 200, awayMs: 30_000 } : { perSecond: 100, awayMs: 4000 }

/** As it documents. */
const KOMMO_WAITS_MS = 5000

let kommo: SimulatedKommo
let postgres: OwnPostgres
let dataDir: string
let env: Record<string, string>

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  postgres = await startOwnPostgres()
})
afterAll(async () => {
  await kommo.close()
  await postgres[Symbol.asyncDispose]()
})
beforeEach(async () => {
  // Whatever the test before left.
  await postgres.thaw()
  await postgres.start()
  dataDir = await mkdtemp(join(tmpdir(), 'database-away-'))
  env = {
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '1000',
    DATABASE_URL: postgres.url,
    DATA_DIR: dataDir,
  }
})
afterEach(() => rm(dataDir, { recursive: true, force: true }))

let conversations = 0

/** Different ones without end, of conversations that nothing is known of. */
function* webhooks(most = Number.POSITIVE_INFINITY): Generator<SignedWebhook> {
  for (let left = most; ;) {
    conversations += 1
    const conversation = kommo.conversations.generate({ messages: 60, seed: `away ${conversations}` })
    for (const message of conversation.messages()) {
      if (left === 0) return
      if (message.receiver === null) continue
      left -= 1
      yield kommo.webhooks.message(conversation, message)
    }
  }
}

/** The deliveries in the order in which the database has them, and nothing else. */
async function storedOf(deliveries: readonly Delivery[]): Promise<Delivery[]> {
  const byBody = new Map(deliveries.map((delivery) => [delivery.webhook.bytes.toString('hex'), delivery]))
  const { rows } = await postgres.pool.query<{ body: Buffer }>(
    'SELECT body FROM kommo.webhook_events ORDER BY id',
  )
  return rows.flatMap(({ body }) => byBody.get(body.toString('hex')) ?? [])
}

const readiness = async ({ url }: { url: string }) => {
  const answer = await fetch(`${url}/readyz`)
  return { status: answer.status, body: await answer.text() }
}

const untilAway = (service: { url: string }) =>
  vi.waitFor(async () => expect((await readiness(service)).body).toContain('database'), SOON)

/** A webhook waits for the database before it is written to the spool. */
const untilSpooled = (service: { url: string }) =>
  vi.waitFor(
    async () =>
      expect(await (await fetch(`${service.url}/metrics`)).text()).toMatch(
        /^kommo_sync_spool_webhooks [1-9]/m,
      ),
    SOON,
  )

async function spoolFiles(): Promise<string[]> {
  const names = await readdir(join(dataDir, 'spool'), { recursive: true })
  return names.filter((name) => name.endsWith('.spool'))
}

/** Takes the database away in the middle of a stream, and looks that nothing is lost, doubled, late or out of order. */
async function goThrough(away: () => Promise<void>, back: () => Promise<void>, awayMs = LOAD.awayMs) {
  await using service = await startService(env)
  await using stream = streamWebhooks(service.url, webhooks(), LOAD.perSecond)
  await vi.waitUntil(() => stream.deliveries.length > 50, SOON)

  await away()
  await untilAway(service)
  expect((await fetch(`${service.url}/healthz`)).status).toBe(200)
  await untilSpooled(service)
  // How long it is away is what is tested.
  await sleep(awayMs)
  await back()
  await untilReady(service)
  const count = stream.deliveries.length
  await vi.waitUntil(() => stream.deliveries.length > count + 50, SOON)
  const deliveries = await stream.stop()
  await untilReady(service)

  const stored = await storedOf(deliveries)
  const figures = {
    webhooks: deliveries.length,
    p99Ms: Math.round(answerTimeMs(deliveries, 0.99)),
    slowestMs: Math.round(answerTimeMs(deliveries, 1)),
  }
  if (SOAK) process.stderr.write(`${JSON.stringify(figures)}\n`)
  expect(deliveries.filter(({ status }) => status !== 200)).toEqual([])
  expect(stored.length).toBe(deliveries.length)
  expect(new Set(stored).size).toBe(deliveries.length)
  expect(countOvertaken(stored)).toBe(0)
  expect(await spoolFiles()).toEqual([])
  const { rows } = await postgres.pool.query(
    `SELECT count(*)::int AS wrong FROM kommo.conversations c WHERE requested <>
       (SELECT count(*) FROM kommo.webhook_events e WHERE e.conversation_id = c.id AND e.sync_request IS NOT NULL)`,
  )
  expect(rows).toEqual([{ wrong: 0 }])
  return figures
}

describe('every webhook is answered 200 and stored once, in order, while', () => {
  test('Postgres is stopped', async () => {
    const { p99Ms } = await goThrough(postgres.stop, postgres.start)
    expect(p99Ms).toBeLessThan(1000)
  })

  test('Postgres hangs', async () => {
    const { slowestMs } = await goThrough(postgres.freeze, postgres.thaw)
    expect(slowestMs).toBeLessThan(KOMMO_WAITS_MS)
  })

  test('the table is locked', async () => {
    const locker = await postgres.pool.connect()
    try {
      const { slowestMs } = await goThrough(
        async () => {
          await locker.query('BEGIN')
          await locker.query('LOCK TABLE kommo.webhook_events')
        },
        async () => void (await locker.query('COMMIT')),
        2000,
      )
      expect(slowestMs).toBeLessThan(KOMMO_WAITS_MS)
    } finally {
      locker.release(true)
    }
  })
})

test('killed while the database is away, the service has everything when both are back', async () => {
  const deliveries: Delivery[] = []
  {
    await using service = await startService(env)
    await using stream = streamWebhooks(service.url, webhooks(), LOAD.perSecond)
    await vi.waitUntil(() => stream.deliveries.length > 20, SOON)
    await postgres.stop()
    await untilAway(service)
    const count = stream.deliveries.length
    await vi.waitUntil(() => stream.deliveries.length > count + 100, SOON)
    await service.stop('SIGKILL')
    deliveries.push(...(await stream.stop()))
  }
  const acknowledged = deliveries.filter(({ status }) => status === 200)
  expect(await spoolFiles()).not.toEqual([])

  await postgres.start()
  await using _service = await startService(env)
  const stored = await storedOf(deliveries)
  expect(new Set(stored).size).toBe(stored.length)
  expect(acknowledged.filter((delivery) => !stored.includes(delivery))).toEqual([])
  expect(countOvertaken(stored.filter(({ status }) => status === 200))).toBe(0)
  expect(await spoolFiles()).toEqual([])
})

test('stopped in order while the database is away, it ends with 0 and leaves the webhooks to the next start', async () => {
  await using service = await startService({ ...env, ROLE: 'receiver' })
  await using sender = createWebhookSender(service.url)
  await postgres.stop()
  const [webhook] = webhooks(1)
  if (webhook === undefined) throw new Error('no webhook')
  expect((await sender.send(webhook)).status).toBe(200)
  expect(await service.stop()).toEqual({ code: 0, signal: null })
  expect(await spoolFiles()).toHaveLength(1)
  await postgres.start()
  await using _next = await startService(env)
  expect(await spoolFiles()).toEqual([])
})

test('started while the database is away, it takes webhooks at once and syncs them when the database is there', async () => {
  await postgres.stop()
  const running = startCommand(['serve'], { ...env, HOST: '127.0.0.1', PORT: '0' })
  try {
    const service = await vi.waitFor(() => {
      const url = logLines(running.stdout()).find(({ msg }) => msg === 'listening')?.['address']
      if (typeof url !== 'string') throw new Error(`it does not listen yet: ${running.stderr()}`)
      return { url }
    }, SOON)
    expect((await fetch(`${service.url}/healthz`)).status).toBe(200)
    expect(await readiness(service)).toMatchObject({ status: 503, body: expect.stringContaining('database') })
    await using sender = createWebhookSender(service.url)
    const told = [...webhooks(20)]
    for (const webhook of told) expect((await sender.send(webhook)).status).toBe(200)

    await postgres.start()
    await vi.waitFor(async () => {
      const { rows } = await postgres.pool.query<{ n: number }>(
        'SELECT count(*)::int AS n FROM kommo.webhook_events WHERE body = ANY ($1) AND processed_at IS NOT NULL',
        [told.map(({ bytes }) => bytes)],
      )
      expect(rows[0]?.n).toBe(told.length)
      expect((await readiness(service)).status).toBe(200)
    }, SOON)
  } finally {
    running.kill('SIGTERM')
    expect(await running.exited).toEqual({ code: 0, signal: null })
  }
})

test('a DATA_DIR that cannot be used ends the start with 2 and one message that names it', async () => {
  const running = startCommand(['serve'], { ...env, DATA_DIR: '/dev/null/data' })
  expect(await running.exited).toEqual({ code: 2, signal: null })
  expect(running.stderr()).toMatch(/DATA_DIR: .*cannot be used/)
})
