import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { InboxWebhook } from '../../../src/domain/webhook.ts'
import { type Inbox, type InboxOptions, createInbox } from '../../../src/inbox/inbox.ts'
import { type Spool, openSpool } from '../../../src/inbox/spool.ts'
import { createLogger } from '../../../src/logger.ts'
import { createMetrics } from '../../../src/metrics.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'
import { SOON } from '../../helpers/soon.ts'

let folder: string
let spool: Spool
let inbox: Inbox | undefined
let lines: string[]

const open = (mostBytes = 100_000_000) =>
  openSpool({ folder, log: createLogger('silent'), segmentBytes: 20_000, mostBytes })

beforeEach(async () => {
  lines = []
  folder = await mkdtemp(join(tmpdir(), 'inbox-'))
  spool = await open()
})
afterEach(async () => {
  await inbox?.close()
  await spool.close()
  inbox = undefined
  await rm(folder, { recursive: true, force: true })
})

const hook = (n: number) => inboxWebhook({ messageId: String(n) })
const log = () => createLogger('info', { write: (line) => void lines.push(line) })

/** A database of which the test decides how it fares. It knows a webhook by its receipt, as the real one does. */
function pretendDatabase() {
  const stored = new Map<string, InboxWebhook>()
  const database = {
    fate: 'well' as 'well' | 'away' | 'hanging' | 'commits, but says nothing',
    calls: 0,
    messages: () => [...stored.values()].map(({ messageId }) => Number(messageId)),
    webhooks: () => [...stored.values()],
    async record(webhooks: readonly InboxWebhook[]) {
      database.calls += 1
      if (database.fate === 'away') throw new Error('connection refused')
      if (database.fate === 'hanging') await new Promise(() => {})
      for (const webhook of webhooks)
        if (!stored.has(webhook.receiptId)) stored.set(webhook.receiptId, webhook)
      if (database.fate !== 'well') throw new Error('connection lost')
    },
  }
  return database
}

function start(database: ReturnType<typeof pretendDatabase>, options: Partial<InboxOptions> = {}): Inbox {
  inbox = createInbox({
    record: database.record,
    recordPatiently: database.record,
    spool,
    metrics: createMetrics(),
    log: log(),
    commitWaitMs: 30,
    patienceMs: 50,
    ...options,
  })
  return inbox
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n)

test('while the database is well nothing touches the disk', async () => {
  const database = pretendDatabase()
  const { add } = start(database)
  await Promise.all(numbers(1, 50).map((n) => add(hook(n))))
  expect(database.messages()).toEqual(numbers(1, 50))
  expect(lines).toEqual([])
})

test.each(['away', 'hanging', 'commits, but says nothing'] as const)(
  'a database that is %s costs no webhook, and all come to it once and in order',
  async (fate) => {
    const database = pretendDatabase()
    const running = start(database)
    await running.add(hook(1))
    database.fate = fate
    await Promise.all(numbers(2, 100).map((n) => running.add(hook(n))))
    await Promise.all(numbers(101, 200).map((n) => running.add(hook(n))))
    expect(running.state).toBe('spool')
    database.fate = 'well'
    await vi.waitUntil(() => running.state === 'database', SOON)
    await running.add(hook(201))
    expect(database.messages()).toEqual(numbers(1, 201))
    expect(spool.size.webhooks).toBe(0)
  },
)

test('webhooks that keep coming do not keep the inbox on disk, and none overtakes another', async () => {
  const database = pretendDatabase()
  const running = start(database)
  database.fate = 'away'
  await Promise.all(numbers(1, 500).map((n) => running.add(hook(n))))
  database.fate = 'well'
  let n = 500
  while (running.state === 'spool') await running.add(hook(++n))
  for (let more = 0; more < 50; more += 1) await running.add(hook(++n))
  expect(database.messages()).toEqual(numbers(1, n))
})

test('what waited on disk tells when it arrived', async () => {
  const database = pretendDatabase()
  const running = start(database)
  await running.add(hook(1))
  database.fate = 'away'
  const before = Date.now()
  await running.add(hook(2))
  database.fate = 'well'
  await vi.waitUntil(() => running.state === 'database', SOON)
  const [direct, waited] = database.webhooks()
  expect(direct?.receivedAt).toBeNull()
  expect(waited?.receivedAt?.getTime()).toBeGreaterThanOrEqual(before)
})

test('going to disk is said once, at level error, and coming back with a count', async () => {
  const database = pretendDatabase()
  const running = start(database)
  database.fate = 'away'
  for (const n of numbers(1, 5)) await running.add(hook(n))
  database.fate = 'well'
  await vi.waitUntil(() => running.state === 'database', SOON)
  const said = lines.map((line): { level: string; webhooks: number } => JSON.parse(line))
  expect(said).toMatchObject([
    { level: 'error', webhooks: 1 },
    { level: 'warn', webhooks: 5 },
  ])
})

test('metrics show what is on disk', async () => {
  const metrics = createMetrics()
  const database = pretendDatabase()
  const running = start(database, { metrics })
  database.fate = 'away'
  await running.add(hook(1))
  const valueOf = async (name: string) =>
    (await metrics.registry.getSingleMetric(name)?.get())?.values[0]?.value
  expect(await valueOf('kommo_sync_database_away')).toBe(1)
  expect(await valueOf('kommo_sync_spool_webhooks')).toBe(1)
  expect(await valueOf('kommo_sync_spool_oldest_timestamp_seconds')).toBeGreaterThan(0)
  database.fate = 'well'
  await vi.waitUntil(() => running.state === 'database', SOON)
  expect(await valueOf('kommo_sync_database_away')).toBe(0)
  expect(await valueOf('kommo_sync_spool_bytes')).toBe(0)
  expect(await valueOf('kommo_sync_spooled_webhooks_total')).toBe(1)
})

test('when the disk is full too, a webhook is refused and what was kept stays', async () => {
  await spool.close()
  spool = await open(2000)
  const database = pretendDatabase()
  const running = start(database)
  database.fate = 'away'
  const kept: number[] = []
  for (const n of numbers(1, 20)) {
    await running.add(hook(n)).then(
      () => kept.push(n),
      () => {},
    )
  }
  expect(kept.length).toBeGreaterThan(0)
  expect(kept.length).toBeLessThan(20)
  database.fate = 'well'
  await vi.waitUntil(() => running.state === 'database', SOON)
  expect(database.messages()).toEqual(kept)
})

test('what an earlier process left goes first, and new webhooks behind it', async () => {
  const database = pretendDatabase()
  const first = start(database)
  database.fate = 'away'
  await Promise.all(numbers(1, 300).map((n) => first.add(hook(n))))
  await first.close()
  await spool.close()

  database.fate = 'well'
  spool = await open()
  const second = start(database)
  expect(second.state).toBe('spool')
  await second.add(hook(301))
  await vi.waitUntil(() => second.state === 'database', SOON)
  expect(database.messages()).toEqual(numbers(1, 301))
})
