import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { createTestDatabase } from '../helpers/database.ts'
import { freshSeed } from '../helpers/fresh-seed.ts'
import { keptBodies } from '../helpers/kept-bodies.ts'
import { runCommand, startService, untilReady } from '../helpers/service.ts'
import { SOON } from '../helpers/soon.ts'
import { untilSynced } from '../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../helpers/truth.ts'
import { createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

const GRACE_MS = 10_000
const silent = { info() {}, warn() {}, error() {} }

let kommo: SimulatedKommo
let folder: string
let env: Record<string, string>

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  folder = await mkdtemp(join(tmpdir(), 'kommo-sync-lifecycle-'))
  env = {
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '1000',
  }
})

afterAll(async () => {
  await kommo?.close()
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
})

/** The webhooks of up to so many of the newest outgoing messages. */
function webhooksOf(conversation: Conversation, most: number): SignedWebhook[] {
  return [...conversation.messages()]
    .filter(({ receiver }) => receiver !== null)
    .slice(0, most)
    .map((message) => kommo.webhooks.message(conversation, message))
}

async function millisecondsOf(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return performance.now() - startedAt
}

describe('with the embedded Postgres', () => {
  let dataDir: string
  let own: Record<string, string>
  const used: string[] = []

  function useNewFolder(): void {
    dataDir = join(folder, `data-${used.length}`)
    used.push(dataDir)
    own = { ...env, DATA_DIR: dataDir }
  }

  beforeAll(useNewFolder)

  // Whoever leaves the folder last stops its server, also one that a killed service has left.
  afterAll(async () => {
    for (const each of used) await (await startEmbeddedPostgres({ dataDir: each, log: silent })).stop()
  })

  async function postmaster(): Promise<number> {
    return Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'), 10)
  }

  /** A look at the tables, beside whoever else uses the folder. */
  async function openTables() {
    const server = await startEmbeddedPostgres({ dataDir, log: silent })
    const pool = new Pool({ connectionString: server.url, max: 2 })
    pool.on('error', () => {})
    return {
      pool,
      async [Symbol.asyncDispose]() {
        await pool.end()
        await server.stop()
      },
    }
  }

  test('the service starts from an empty folder, syncs, and a SIGTERM leaves no process behind', async () => {
    // A first try has filled it.
    if (existsSync(dataDir)) useNewFolder()
    const conversation = kommo.conversations.generate({ messages: 120, seed: freshSeed('lifecycle first') })
    await using service = await startService(own)
    await using sender = createWebhookSender(service.url)
    const [webhook] = webhooksOf(conversation, 1)
    if (webhook === undefined) throw new Error('no webhook')
    expect((await sender.send(webhook)).status).toBe(200)

    const facts = { conversations: { total: 1, complete: 1 }, messages: { total: 120 } }
    await vi.waitFor(async () => {
      const { code, stdout, stderr } = await runCommand(['status', '--json'], own)
      expect([code, stderr]).toEqual([0, ''])
      expect(JSON.parse(stdout)).toMatchObject(facts)
    }, SOON)
    // The commands have come and gone: the database is still there for the service.
    const server = await postmaster()
    expect(isAlive(server)).toBe(true)
    await untilReady(service)
    expect((await sender.send(webhook)).status).toBe(200)

    const tookMs = await millisecondsOf(() => service.stop('SIGTERM'))
    expect(await service.exited).toEqual({ code: 0, signal: null })
    expect(tookMs).toBeLessThan(GRACE_MS)
    expect(isAlive(server)).toBe(false)

    const { code, stdout } = await runCommand(['status', '--json'], own)
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject(facts)
    expect(isAlive(await postmaster().catch(() => -1))).toBe(false)
  })

  test('after a kill -9 everything acknowledged is there, and the walk goes on where it was', async () => {
    const long = kommo.conversations.generate({ messages: 1_500, seed: freshSeed('lifecycle long') })
    const short = Array.from({ length: 20 }, (_, n) =>
      kommo.conversations.generate({ messages: 40, seed: freshSeed(`lifecycle short ${n}`) }),
    )
    const told: SignedWebhook[] = []
    // So slow that the burst is over long before the walk.
    kommo.faults.setLatency(100)
    {
      await using service = await startService(own)
      await using sender = createWebhookSender(service.url, { connections: 8 })
      const [first] = webhooksOf(long, 1)
      if (first === undefined) throw new Error('no webhook')
      await sender.send(first)
      told.push(first)
      await vi.waitFor(() => expect(kommo.stats.historyRequestsOf(long.id)).toBeGreaterThan(8), SOON)
      // It dies in the middle of the walk and of a burst.
      const burst = short.flatMap((conversation) => webhooksOf(conversation, 10))
      const dying = vi.waitFor(() => expect(told.length).toBeGreaterThan(60), {
        ...SOON,
        interval: 1,
      })
      void dying.then(() => process.kill(service.pid, 'SIGKILL'))
      await forEachAtOnce(burst, 8, async (webhook) => {
        const answer = await sender.send(webhook).catch(() => null)
        if (answer?.status === 200) told.push(webhook)
      })
      expect(await service.exited).toEqual({ code: null, signal: 'SIGKILL' })
      expect(told.length).toBeLessThan(burst.length)
    }
    const walked = kommo.stats.historyRequestsOf(long.id)
    const pages = Math.floor((long.size - 1) / 49) + 1
    expect(walked).toBeLessThan(pages)

    kommo.faults.setLatency(0)
    await using _service = await startService(own)
    await using tables = await openTables()
    const { rows } = await tables.pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
    const kept = new Set(rows.map(({ body }) => body.toString('hex')))
    expect(told.filter(({ bytes }) => !kept.has(bytes.toString('hex')))).toEqual([])

    // The dead worker's claims run out first.
    await untilSynced(tables.pool)
    // The page in hand is asked for again, nothing before it; one more for what the first walk cannot answer.
    expect(kommo.stats.historyRequestsOf(long.id)).toBeLessThanOrEqual(pages + 2)

    const stored = await storedTables(tables.pool)
    const reached = kommo.conversations.all().filter(({ id }) => stored.conversations.has(id))
    const bodies = rows.map(({ body }) => body)
    expect(differences(stored, expectedTables(reached, bodies))).toEqual([])
  })

  test('a kill -9 of Postgres loses nothing that was acknowledged, and the service goes on', async () => {
    const conversations = Array.from({ length: 30 }, (_, n) =>
      kommo.conversations.generate({ messages: 30, seed: freshSeed(`lifecycle postgres ${n}`) }),
    )
    const told: SignedWebhook[] = []
    await using service = await startService(own)
    await using sender = createWebhookSender(service.url, { connections: 8 })
    const burst = conversations.flatMap((conversation) => webhooksOf(conversation, 8))
    const server = await postmaster()
    const statuses = new Set<number>()
    await forEachAtOnce(burst, 8, async (webhook) => {
      if (told.length >= 40 && isAlive(server)) process.kill(server, 'SIGKILL')
      const { status } = await sender.send(webhook)
      statuses.add(status)
      if (status === 200) told.push(webhook)
    })
    expect(told.length).toBeGreaterThanOrEqual(40)
    // A killed server's sessions live on for a moment, and answer.
    await vi.waitFor(async () => {
      expect(await postmaster()).not.toBe(server)
      expect((await fetch(`${service.url}/readyz`)).status).toBe(200)
    }, SOON)

    await using tables = await openTables()
    const { rows } = await tables.pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
    const kept = new Set(rows.map(({ body }) => body.toString('hex')))
    expect(told.filter(({ bytes }) => !kept.has(bytes.toString('hex')))).toEqual([])
    await untilSynced(tables.pool)
    expect([200, 503]).toEqual(expect.arrayContaining([...statuses]))
  })
})

describe('on a signal', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    '%s in the middle of a walk ends with 0 and gives the claim back',
    async (signal) => {
      const database = await createTestDatabase()
      try {
        const conversation = kommo.conversations.generate({
          messages: 2_000,
          seed: freshSeed(`signal ${signal}`),
        })
        kommo.faults.setLatency(100)
        await using service = await startService({ ...env, DATABASE_URL: database.url })
        await using sender = createWebhookSender(service.url)
        for (const webhook of webhooksOf(conversation, 1)) await sender.send(webhook)
        await vi.waitFor(
          () => expect(kommo.stats.historyRequestsOf(conversation.id)).toBeGreaterThan(2),
          SOON,
        )
        const tookMs = await millisecondsOf(() => service.stop(signal))
        expect(await service.exited).toEqual({ code: 0, signal: null })
        expect(tookMs).toBeLessThan(GRACE_MS)
        const { rows } = await database.pool.query(
          `SELECT claim_id, walk_offset > 0 AS has_checkpoint, run_after <= now() AS is_due, attempts
         FROM kommo.conversations`,
        )
        expect(rows).toEqual([{ claim_id: null, has_checkpoint: true, is_due: true, attempts: 0 }])
      } finally {
        kommo.faults.clear()
        await database.drop()
      }
    },
  )

  test('SIGTERM while Kommo does not answer ends with 0 in time and gives the claim back', async () => {
    const database = await createTestDatabase()
    try {
      const conversation = kommo.conversations.generate({ messages: 20, seed: freshSeed('hanging') })
      kommo.faults.add({ kind: 'slow-headers', delayMs: 60_000, conversationId: conversation.id })
      await using service = await startService({ ...env, DATABASE_URL: database.url })
      await using sender = createWebhookSender(service.url)
      for (const webhook of webhooksOf(conversation, 1)) await sender.send(webhook)
      await vi.waitFor(() => expect(kommo.stats.historyRequestsOf(conversation.id)).toBe(1), SOON)
      const tookMs = await millisecondsOf(() => service.stop('SIGTERM'))
      const { rows } = await database.pool.query('SELECT claim_id FROM kommo.conversations')
      expect({ exit: await service.exited, rows }).toEqual({
        exit: { code: 0, signal: null },
        rows: [{ claim_id: null }],
      })
      expect(tookMs).toBeLessThan(GRACE_MS)
    } finally {
      kommo.faults.clear()
      await database.drop()
    }
  })

  test('SIGTERM in a burst: each webhook is answered or its connection refused, and exactly those answered are kept', async () => {
    const database = await createTestDatabase()
    try {
      const conversation = kommo.conversations.generate({ messages: 3_000, seed: freshSeed('burst') })
      await using service = await startService({ ...env, DATABASE_URL: database.url, ROLE: 'receiver' })
      await using sender = createWebhookSender(service.url, { connections: 16 })
      let acknowledged = 0
      let isSignalled = false
      let refused = 0
      const other = new Set<string>()
      await forEachAtOnce(webhooksOf(conversation, 1_500), 16, async (webhook) => {
        if (acknowledged >= 300 && !isSignalled) {
          isSignalled = true
          process.kill(service.pid, 'SIGTERM')
        }
        try {
          const { status } = await sender.send(webhook)
          if (status === 200) acknowledged += 1
          else other.add(String(status))
        } catch (error) {
          const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
          if (['ECONNREFUSED', 'UND_ERR_SOCKET', 'ECONNRESET'].includes(code)) refused += 1
          else other.add(code)
        }
      })
      expect(await service.exited).toEqual({ code: 0, signal: null })
      expect(refused).toBeGreaterThan(0)
      expect(await keptBodies(database.pool, service)).toHaveLength(acknowledged)
      expect([...other].filter((what) => what !== '503')).toEqual([])
    } finally {
      await database.drop()
    }
  })
})

function isAlive(pid: number): boolean {
  if (pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
