import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { freshSeed } from '../helpers/fresh-seed.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { showFigures } from '../helpers/soak.ts'
import { SOON } from '../helpers/soon.ts'
import { untilSynced } from '../helpers/synced.ts'
import { createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

const MIB = 1024 * 1024
/** Ten for the work, two and one for the inbox, one that listens. */
const MOST_CONNECTIONS = 14

let kommo: SimulatedKommo
let database: TestDatabase
let service: RunningService

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  service = await startService({
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '1000',
  })
})
afterAll(async () => {
  await service?.stop()
  await kommo?.close()
  await database?.drop()
})

async function peakMemoryMiB(): Promise<number> {
  const status = await readFile(`/proc/${service.pid}/status`, 'utf8')
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024
}

test('under load the service has a bounded number of database connections', async () => {
  const webhooks = Array.from({ length: 60 }, (_, n) =>
    kommo.conversations.generate({ messages: 200, seed: freshSeed(`connections ${n}`) }),
  ).flatMap((conversation) =>
    [...conversation.messages()]
      .filter(({ receiver }) => receiver !== null)
      .slice(0, 20)
      .map((message) => kommo.webhooks.message(conversation, message)),
  )
  await using sender = createWebhookSender(service.url, { connections: 64 })
  let most = 0
  const over = new AbortController()
  const looking = (async () => {
    while (!over.signal.aborted) {
      const { rows } = await database.pool.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`,
      )
      most = Math.max(most, rows[0]?.n ?? 0)
    }
  })()
  try {
    await forEachAtOnce(webhooks, 64, async (webhook) => {
      expect((await sender.send(webhook)).status).toBe(200)
    })
    await untilReady(service)
    await untilSynced(database.pool)
  } finally {
    over.abort()
    await looking
  }
  expect(most).toBeGreaterThan(4)
  // The test's own pool may have a connection or two besides the one that looks.
  expect(most).toBeLessThanOrEqual(MOST_CONNECTIONS + 2)
})

test('150 bodies of 1 MiB at once that wait for a commit are kept or refused, in bounded memory', async () => {
  // A try of its own: what one before it has kept is not counted.
  const name = randomUUID()
  const locker = await database.pool.connect()
  const body = Buffer.alloc(MIB - 100, 'x')
  const kept: number[] = []
  const statuses = new Set<number>()
  const made = Array.from({ length: 150 }, (_, n) =>
    kommo.webhooks.sign(kommo.scopeId, Buffer.concat([Buffer.from(`${n} ${name} `), body])),
  )
  await using sender = createWebhookSender(service.url, { connections: 150 })
  try {
    await locker.query('BEGIN')
    await locker.query('LOCK TABLE kommo.webhook_events')
    await forEachAtOnce(made.entries(), 150, async ([n, webhook]) => {
      const { status } = await sender.send(webhook)
      statuses.add(status)
      if (status === 200) kept.push(n)
    })
    await locker.query('COMMIT')
  } finally {
    locker.release(true)
  }
  expect([...statuses].filter((status) => status !== 200 && status !== 503)).toEqual([])
  expect(kept.length).toBeGreaterThan(0)
  const peakMiB = await peakMemoryMiB()
  showFigures({ kept: kept.length, refused: made.length - kept.length, peakMiB })
  expect(peakMiB).toBeLessThan(1000)
  await vi.waitFor(
    async () => {
      const { rows } = await database.pool.query<{ n: number }>(
        `SELECT convert_from(substr(body, 1, position(' '::bytea in body) - 1), 'UTF8')::int AS n
         FROM kommo.webhook_events WHERE position(convert_to($1, 'UTF8') IN substr(body, 1, 50)) > 0`,
        [name],
      )
      expect(rows.map(({ n }) => n).toSorted((a, b) => a - b)).toEqual(kept.toSorted((a, b) => a - b))
    },
    { ...SOON, interval: 200 },
  )
})

test('a request that does not arrive is cut off, and one that arrives slowly is not', async () => {
  const webhook = kommo.webhooks.sign(kommo.scopeId, Buffer.from('{"type":"slow"}'))
  const { hostname, port } = new URL(service.url)
  const begin = (): { socket: ReturnType<typeof connect>; answer: Promise<string> } => {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => {})
    socket.write(
      `POST /webhooks/kommo/${webhook.scopeId} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n` +
        `X-Signature: ${webhook.signature}\r\nContent-Length: ${webhook.bytes.length}\r\n\r\n`,
    )
    return { socket, answer: text(socket).catch(() => '') }
  }
  const startedAt = performance.now()
  const [never, slow] = [begin(), begin()]
  for (const byte of webhook.bytes) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    slow.socket.write(Buffer.from([byte]))
  }
  expect(await slow.answer).toMatch(/^HTTP\/1\.1 200 /)
  expect(await never.answer).toMatch(/^$|^HTTP\/1\.1 408 /)
  const cutOffMs = performance.now() - startedAt
  showFigures({ cutOffMs })
  expect(cutOffMs).toBeLessThan(25_000)
})
