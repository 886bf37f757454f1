import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { Conversation } from '../../../src/simulated-kommo/conversation.ts'
import { startSimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../../src/simulated-kommo/webhooks.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { freePort } from '../../helpers/free-port.ts'
import { documentedSettings } from '../../helpers/operations/document.ts'
import { createOperator } from '../../helpers/operations/operator.ts'
import { NGINX, startProxy } from '../../helpers/operations/proxy.ts'
import { orSkipped, versionOf } from '../../helpers/operations/tools.ts'
import { type RunningService, startService } from '../../helpers/service.ts'
import { untilSynced } from '../../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../../helpers/truth.ts'
import { createWebhookSender } from '../../helpers/webhook-sender.ts'
import { type Delivery, streamWebhooks } from '../../helpers/webhook-stream.ts'

const OLD = 'f2d7f8704eff95087ed45b23ba99c0b5aac8278e'
const NEW = '5a44c5dff55f3c15a4cce8d7c4cc27e207c7e189'
const PER_SECOND = 50
const SOON = { timeout: 60_000, interval: 50 }
const PSQL = versionOf('psql')
const PROXY = NGINX === null ? 'a proxy that does as the documented nginx' : `nginx ${NGINX} as documented`

/** Two receivers behind a proxy and a worker; the simulated Kommo signs with what `channel.secret` is at the moment. */
async function setUp(stack: AsyncDisposableStack) {
  const channel = { id: 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354', secret: OLD }
  const kommo = await startSimulatedKommo({ channels: [channel] })
  stack.defer(() => kommo.close())
  const database = await createTestDatabase()
  stack.defer(() => database.drop())
  const ports: [number, number] = [await freePort(), await freePort()]
  const proxy = stack.use(await startProxy(ports))
  const dataDir = await mkdtemp(join(tmpdir(), 'rotate-secrets-'))
  stack.defer(() => rm(dataDir, { recursive: true, force: true }))
  const running = new Map<string, RunningService>()
  stack.defer(async () => {
    await Promise.all([...running.values()].map((service) => service[Symbol.asyncDispose]()))
  })
  const chats: Conversation[] = []
  /** From now on webhooks tell of more conversations. */
  function addChats(): void {
    for (let n = 0; n < 10; n += 1) {
      chats.push(kommo.conversations.generate({ messages: 70, seed: `rotation ${chats.length}` }))
    }
  }
  addChats()

  /** Stops one and starts it with other settings, as the document says. */
  async function restart(
    name: 'first' | 'second' | 'worker',
    settings: Record<string, string>,
  ): Promise<void> {
    const exit = await running.get(name)?.stop()
    if (exit !== undefined) expect(exit).toEqual({ code: 0, signal: null })
    const [first, second] = ports
    const place = {
      first: { ROLE: 'receiver', PORT: String(first) },
      second: { ROLE: 'receiver', PORT: String(second) },
      worker: { ROLE: 'worker', PORT: '0' },
    }
    const service = await startService({
      DATABASE_URL: database.url,
      KOMMO_BASE_URL: kommo.url,
      KOMMO_CHANNEL_ID: channel.id,
      KOMMO_REQUESTS_PER_SECOND: '500',
      DATA_DIR: dataDir,
      ...place[name],
      ...settings,
    })
    running.set(name, service)
  }

  function* webhooks(): Generator<SignedWebhook> {
    for (let turn = 0; ; turn += 1) {
      for (const chat of chats) {
        const told = [...chat.messages()].filter(({ receiver }) => receiver !== null)
        const message = told[turn % told.length]
        if (message !== undefined) yield kommo.webhooks.message(chat, message)
      }
    }
  }

  return {
    channel,
    kommo,
    database,
    ports,
    proxy,
    chats,
    addChats,
    webhooks,
    restart,
    receivers: () => ['first', 'second'].flatMap((name) => running.get(name) ?? []),
  }
}

/** When, counted from the first webhook, each was refused and how. */
function refusals(deliveries: readonly Delivery[]): string[] {
  const start = Math.min(...deliveries.map(({ sentAtMs }) => sentAtMs))
  return deliveries
    .filter(({ status }) => status !== 200)
    .map(({ status, sentAtMs, answeredAtMs }) => {
      return `${status} at ${Math.round(sentAtMs - start)} ms, after ${Math.round(answeredAtMs - sentAtMs)} ms`
    })
}

/** Signatures of the webhooks that were answered and are not in the database. */
async function missing({ pool }: TestDatabase, deliveries: readonly Delivery[]): Promise<string[]> {
  const { rows } = await pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
  const kept = new Set(rows.map(({ body }) => body.toString('latin1')))
  return deliveries
    .filter(({ webhook }) => !kept.has(webhook.bytes.toString('latin1')))
    .map(({ webhook }) => webhook.signature)
}

async function countStored({ pool }: TestDatabase): Promise<number> {
  const { rows } = await pool.query<{ n: number }>('SELECT count(*)::int AS n FROM kommo.webhook_events')
  return rows[0]?.n ?? 0
}

async function acceptedWithPrevious(receivers: readonly RunningService[]): Promise<number> {
  const counts = receivers.map(async ({ url }) => {
    const text = await (await fetch(`${url}/metrics`)).text()
    return Number(
      /^kommo_sync_webhook_oddities_total\{oddity="previous_secret"\} (\d+)/m.exec(text)?.[1] ?? 0,
    )
  })
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
}

test(`the channel's secret is rotated under load, by the documented steps, and no webhook is refused; behind ${PROXY}`, async () => {
  await using stack = new AsyncDisposableStack()
  const system = await setUp(stack)
  const { channel, kommo, database, ports, proxy, restart } = system
  const operator = stack.use(await createOperator({ DATABASE_URL: database.url }))
  await Promise.all(
    (['first', 'second', 'worker'] as const).map((name) => restart(name, { KOMMO_CHANNEL_SECRET: OLD })),
  )
  const step = (name: string, secrets: Record<string, string>) => documentedSettings(name, secrets)
  async function restartReceivers(settings: Record<string, string>): Promise<void> {
    for (const [index, name] of (['first', 'second'] as const).entries()) {
      await restart(name, settings)
      await operator.run('wait-ready', {}, { '127.0.0.1:3000': `127.0.0.1:${ports[index]}` })
    }
  }

  const stream = streamWebhooks(proxy.url, system.webhooks(), PER_SECOND)
  await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(50), SOON)

  await restartReceivers(step('rotate-accept', { OLD, NEW }))
  channel.secret = NEW
  // Of these nothing is known yet, so their histories are asked for.
  system.addChats()
  const refused = () => kommo.stats.recent().some(({ status }) => status === 403)
  await vi.waitFor(() => expect(refused()).toBe(true), SOON)

  const use = step('rotate-use', { NEW, OLD })
  await restartReceivers(use)
  await restart('worker', use)
  await vi.waitFor(async () => expect(await acceptedWithPrevious(system.receivers())).toBe(0), SOON)

  await restartReceivers(step('rotate-forget', { NEW }))
  const deliveries = await stream.stop()
  expect(refusals(deliveries), proxy.output()).toEqual([])
  expect(deliveries.length).toBeGreaterThan(300)

  // The worker waits for the end of the block that the old secret has earned.
  if (PSQL === null)
    await database.pool.query('UPDATE kommo.rate_limits SET blocked_until = NULL, refusals = 0')
  else await operator.run('unblock')
  await vi.waitFor(async () => expect(await missing(database, deliveries)).toEqual([]), SOON)
  await untilSynced(database.pool, 20_000)
  // Twice where the proxy tried again what the first had kept.
  expect(await countStored(database)).toBeGreaterThanOrEqual(deliveries.length)
  const told = new Set(deliveries.map(({ webhook }) => webhook.bytes.toString('latin1')))
  const known = new Set((await storedTables(database.pool)).conversations.keys())
  const truth = expectedTables(
    system.chats.filter(({ id }) => known.has(id)),
    [...told].map((text) => Buffer.from(text, 'latin1')),
  )
  expect(differences(await storedTables(database.pool), truth)).toEqual([])

  await using sender = createWebhookSender(proxy.url)
  const [webhook] = system.webhooks()
  channel.secret = OLD
  const [signedWithOld] = system.webhooks()
  if (webhook === undefined || signedWithOld === undefined) throw new Error('there are no webhooks')
  expect((await sender.send(webhook)).status).toBe(200)
  expect((await sender.send(signedWithOld)).status).toBe(401)
})

test.skipIf(PSQL === null)(
  `the database password is rotated under load and no webhook is refused; with ${orSkipped(['psql', PSQL])}`,
  async () => {
    await using stack = new AsyncDisposableStack()
    const { channel, database, proxy, webhooks, restart } = await setUp(stack)
    // A role of its own: the tests share the server's.
    const role = `rotating_${randomBytes(6).toString('hex')}`
    const urlWith = (password: string) => {
      const url = new URL(database.url)
      url.username = role
      url.password = password
      return url.href
    }
    await database.pool.query(`CREATE ROLE ${role} LOGIN PASSWORD 'first-password'`)
    stack.defer(async () => {
      await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
    })
    await database.pool.query(`
      GRANT USAGE ON SCHEMA kommo, public TO ${role}; GRANT ALL ON ALL TABLES IN SCHEMA kommo, public TO ${role};
      GRANT ALL ON ALL SEQUENCES IN SCHEMA kommo TO ${role}`)
    const operator = stack.use(await createOperator({ DATABASE_URL: urlWith('first-password') }))
    const names = ['first', 'second', 'worker'] as const
    const secret = { KOMMO_CHANNEL_SECRET: channel.secret }
    await Promise.all(
      names.map((name) => restart(name, { ...secret, DATABASE_URL: urlWith('first-password') })),
    )
    const stream = streamWebhooks(proxy.url, webhooks(), PER_SECOND)
    await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(50), SOON)

    await operator.run('rotate-password', { NEW_PASSWORD: "second'password" })
    // A receiver that loses its sessions now cannot have new ones.
    await database.pool.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [
      role,
    ])
    const until = stream.deliveries.length + 50
    await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(until), SOON)
    for (const name of names) await restart(name, { ...secret, DATABASE_URL: urlWith("second'password") })

    const deliveries = await stream.stop()
    expect(refusals(deliveries), proxy.output()).toEqual([])
    await vi.waitFor(async () => expect(await missing(database, deliveries)).toEqual([]), SOON)
  },
)
