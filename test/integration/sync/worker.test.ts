import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Conversation } from '../../../src/simulated-kommo/conversation.ts'
import { SETTLE_MS } from '../../../src/store/call.ts'
import { SOON } from '../../helpers/soon.ts'
import { type SyncSetup, existingIds, setUpSync } from '../../helpers/worker.ts'

let sync: SyncSetup

beforeEach(() => setUp())

async function setUp(requestsPerSecond?: number): Promise<void> {
  const made = await setUpSync(requestsPerSecond === undefined ? {} : { requestsPerSecond })
  onTestFinished(() => made.close())
  sync = made
}

const generate = (messages: number) => sync.simulated.conversations.generate({ messages })

const isSynced = (conversation: Conversation) =>
  vi.waitFor(async () => {
    const row = await sync.row(conversation)
    expect(row?.requested).toBe(row?.processed)
    expect(row?.historyComplete).toBe(true)
  }, SOON)

const hasRow = (conversation: Conversation, expected: object) =>
  vi.waitFor(async () => expect(await sync.row(conversation)).toMatchObject(expected), SOON)

/** The webhook of a message that a manager wrote. */
function managerWebhook(conversation: Conversation, text: string) {
  const message = conversation.addMessage({ from: 'manager', text })
  return { message, webhook: sync.simulated.webhooks.message(conversation, message) }
}

/** Holds every history answer back until it is let go. */
function holdHistory(): { asked: Promise<void>; letGo: () => void } {
  const asked = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  sync.simulated.faults.onHistoryRequest(async () => {
    asked.resolve()
    await held.promise
  })
  return { asked: asked.promise, letGo: held.resolve }
}

test('a webhook makes its whole conversation appear', async () => {
  const conversation = generate(120)
  sync.startWorker()
  await sync.receive(managerWebhook(conversation, 'hello').webhook)
  await isSynced(conversation)
  expect(await sync.storedIds(conversation)).toEqual(existingIds(conversation))
})

test('many webhooks of one moment cost one read', async () => {
  const conversation = generate(20)
  sync.startWorker()
  const webhooks = Array.from(
    { length: 10 },
    (_, number) => managerWebhook(conversation, `${number}`).webhook,
  )
  const startedAt = performance.now()
  await Promise.all(webhooks.map((webhook) => sync.receive(webhook)))
  // A machine that takes longer over them than they are waited for may read in between.
  const isOneMoment = performance.now() - startedAt < SETTLE_MS
  await isSynced(conversation)
  expect(sync.simulated.stats.historyRequestsOf(conversation.id)).toBeLessThanOrEqual(isOneMoment ? 1 : 2)
})

test('a message is visible before its history can be read', async () => {
  const conversation = generate(5)
  const { asked, letGo } = holdHistory()
  sync.startWorker()
  const { message, webhook } = managerWebhook(conversation, 'hello')
  await sync.receive(webhook)
  await vi.waitFor(async () => expect(await sync.storedIds(conversation)).toEqual([message.id]), SOON)
  await asked
  expect(await sync.storedIds(conversation)).toEqual([message.id])
  letGo()
  await isSynced(conversation)
})

test('a webhook that cannot be stored does not stop the others', async () => {
  const conversation = generate(0)
  const before = managerWebhook(conversation, 'before')
  const after = managerWebhook(conversation, 'after')
  await sync.receive(before.webhook)
  // Its conversation does not exist: the foreign key refuses its message, and with it the whole batch.
  await sync.database.pool.query(
    `INSERT INTO kommo.webhook_events (scope_id, kind, conversation_id, message_id, body)
     SELECT scope_id, kind, 'no such conversation', 'poison', convert_to(replace(convert_from(body, 'UTF8'), $1, 'poison'), 'UTF8')
     FROM kommo.webhook_events`,
    [before.message.id],
  )
  await sync.receive(after.webhook)
  sync.startWorker()
  await vi.waitFor(
    async () =>
      expect(await sync.database.prisma.webhookEvent.count({ where: { processedAt: null } })).toBe(0),
    SOON,
  )
  const events = await sync.database.prisma.webhookEvent.findMany({ orderBy: { id: 'asc' } })
  expect(events.map(({ error }) => error)).toEqual([
    null,
    expect.stringContaining('could not be stored'),
    null,
  ])
  expect(await sync.storedIds(conversation)).toEqual([before.message.id, after.message.id].toSorted())
})

describe('what Kommo refuses', () => {
  test('429 pauses the channel for all conversations, and is nobody’s failed attempt', async () => {
    // Half a second apart: the answer is there long before the next one leaves.
    await setUp(2)
    const conversations = Array.from({ length: 4 }, () => generate(3))
    sync.simulated.faults.add({ kind: 'too-many-requests', retryAfter: 1, times: 1 })
    await Promise.all(conversations.map((conversation) => sync.call(conversation)))
    sync.startWorker()
    await Promise.all(conversations.map(isSynced))

    for (const conversation of conversations)
      expect(await sync.row(conversation)).toMatchObject({ attempts: 0 })
    const [refused, ...later] = sync.simulated.stats.recent()
    expect(refused?.status).toBe(429)
    // One request may have been under way when the answer came.
    const paused = later
      .map(({ at }) => at.getTime() - (refused?.at.getTime() ?? 0))
      .filter((ms) => ms < 1000)
    expect(paused.length).toBeLessThanOrEqual(1)
    expect(later.filter(({ status }) => status === 429)).toEqual([])
  })

  test('a refused signature pauses the channel', async () => {
    const conversation = generate(3)
    sync.simulated.faults.add({ kind: 'forbidden' })
    await sync.call(conversation)
    sync.startWorker()
    await hasRow(conversation, {
      attempts: 0,
      deadAt: null,
      claimId: null,
      lastError: expect.stringMatching(/403/),
    })
    const channel = await sync.database.prisma.rateLimit.findFirstOrThrow()
    expect((channel.blockedUntil?.getTime() ?? 0) - Date.now()).toBeGreaterThan(20_000)
    const next = generate(3)
    await sync.call(next)
    await sync.receive(managerWebhook(next, 'shown all the same').webhook)
    await vi.waitFor(async () => expect(await sync.storedIds(next)).toHaveLength(1), SOON)
    expect(sync.simulated.stats.snapshot().historyRequests).toBe(1)
  })

  test('404 lays the conversation to rest at once, and a webhook revives it', async () => {
    const conversation = generate(3)
    sync.simulated.faults.add({ kind: 'status', status: 404, times: 1 })
    await sync.call(conversation)
    sync.startWorker()
    await hasRow(conversation, {
      deadAt: expect.any(Date),
      attempts: 1,
      lastError: expect.stringMatching(/404/),
    })
    await sync.receive(managerWebhook(conversation, 'back again').webhook)
    await isSynced(conversation)
    expect(await sync.row(conversation)).toMatchObject({ deadAt: null, attempts: 0, lastError: null })
  })

  test.each([
    ['500', { kind: 'status', status: 500, times: 1 } as const],
    ['an answer that cannot be read', { kind: 'unreadable-json', times: 1 } as const],
    ['a connection cut off', { kind: 'cut-off', times: 1 } as const],
  ])('%s is tried again after a back-off, and then succeeds', async (_case, fault) => {
    const conversation = generate(3)
    sync.simulated.faults.add(fault)
    const seen = Promise.withResolvers<void>()
    sync.simulated.faults.onHistoryRequest(({ number }) => (number === 2 ? seen.promise : undefined))
    await sync.call(conversation)
    sync.startWorker()
    await hasRow(conversation, { attempts: 1, deadAt: null, lastError: expect.any(String) })
    seen.resolve()
    await isSynced(conversation)
    expect(await sync.row(conversation)).toMatchObject({ attempts: 0, lastError: null })
    const [first, second] = sync.simulated.stats.recent()
    expect((second?.at.getTime() ?? 0) - (first?.at.getTime() ?? 0)).toBeGreaterThan(700)
  })
})

test('stop finishes the page in hand and gives the claim back at once', async () => {
  const conversation = generate(200)
  const { asked, letGo } = holdHistory()
  const worker = sync.startWorker()
  await sync.call(conversation)
  await asked
  const stopped = worker.stop()
  letGo()
  await stopped
  const row = await sync.row(conversation)
  expect(row).toMatchObject({ claimId: null, walkOffset: 49, attempts: 0, lastError: null })
  expect(row?.runAfter.getTime()).toBeLessThanOrEqual(Date.now())
  expect(await sync.storedIds(conversation)).toHaveLength(50)
})

test('a claim is kept while its turn is further away than a lease lasts', async () => {
  await setUp(0.05)
  const conversations = [generate(3), generate(3)]
  await Promise.all(conversations.map((conversation) => sync.call(conversation)))
  sync.startWorker()
  // One of them is claimed for so short that no look may meet it; the other waits.
  const claims = new Map<string, Set<string>>()
  await vi.waitFor(
    async () => {
      const rows = await sync.database.prisma.conversation.findMany()
      for (const { id, claimId } of rows) {
        if (claimId !== null) claims.set(id, (claims.get(id) ?? new Set()).add(claimId))
      }
      expect(rows.map(({ processed }) => processed)).toEqual([1n, 1n])
    },
    { timeout: 90_000, interval: 50 },
  )
  expect(Math.max(...[...claims.values()].map(({ size }) => size))).toBe(1)
})

test('stop does not wait for the rate, and gives those claims back too', async () => {
  await setUp(0.05)
  const conversations = Array.from({ length: 4 }, () => generate(3))
  await Promise.all(conversations.map((conversation) => sync.call(conversation)))
  const worker = sync.startWorker()
  await vi.waitFor(async () => {
    expect(await sync.database.prisma.conversation.count({ where: { processed: 1 } })).toBe(1)
    expect(await sync.database.prisma.conversation.count({ where: { claimId: { not: null } } })).toBe(3)
  }, SOON)
  await worker.stop()
  const rows = await sync.database.prisma.conversation.findMany({ where: { processed: 0 } })
  expect(rows).toHaveLength(3)
  for (const row of rows) expect(row).toMatchObject({ claimId: null, attempts: 0 })
})
