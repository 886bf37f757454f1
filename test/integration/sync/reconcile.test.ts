import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import type { Role } from '../../../src/config.ts'
import { startHeartbeat } from '../../../src/sync/heartbeat.ts'
import { startReconcile } from '../../../src/sync/reconcile.ts'
import { SOON } from '../../helpers/soon.ts'
import { untilSynced } from '../../helpers/synced.ts'
import { type SyncSetup, existingIds, setUpSync } from '../../helpers/worker.ts'

let sync: SyncSetup

beforeEach(async () => {
  const made = await setUpSync()
  onTestFinished(() => made.close())
  sync = made
})

function reconcile(intervalMs: number): void {
  const { database, log } = sync.dependencies
  const channelIds = [sync.simulated.channelId]
  const loop = startReconcile({ database, log, channelIds, requestsPerSecond: 1000, intervalMs })
  onTestFinished(() => loop.stop())
}

function heartbeat(role: Role, beatMs = 10_000): void {
  const { database, log } = sync.dependencies
  const loop = startHeartbeat({ database, log, role, reconcileIntervalMs: 3_600_000, beatMs })
  onTestFinished(() => loop.stop())
}

const generate = (messages: number, until = new Date()) =>
  sync.simulated.conversations.generate({ messages, until })

test('a message that no webhook tells of is there after the interval', async () => {
  const conversation = generate(3)
  await sync.call(conversation)
  sync.startWorker()
  await untilSynced(sync.database.pool)
  conversation.clientWrites('is anybody there?')
  reconcile(500)
  await vi.waitFor(async () => expect(await sync.storedIds(conversation)).toHaveLength(4), SOON)
})

test('an unchanged conversation costs one request, whatever its size', async () => {
  const conversations = Array.from({ length: 100 }, (_, n) => generate(1 + ((n * 7) % 130)))
  for (const conversation of conversations) await sync.call(conversation)
  sync.startWorker()
  await untilSynced(sync.database.pool)
  sync.simulated.stats.reset()

  await sync.database.pool.query('UPDATE kommo.conversations SET read_again_at = now()')
  reconcile(3_600_000)
  await vi.waitFor(
    async () =>
      expect(await sync.database.prisma.conversation.count({ where: { walksCompleted: 2 } })).toBe(100),
    SOON,
  )
  await untilSynced(sync.database.pool)
  const { historyRequests } = sync.simulated.stats.snapshot()
  expect(historyRequests).toBeGreaterThanOrEqual(100)
  expect(historyRequests).toBeLessThanOrEqual(110)
})

test('after an absence of receivers the active conversations are whole again', async () => {
  const active = Array.from({ length: 10 }, () => generate(5))
  const quiet = generate(5, new Date(Date.now() - 10 * 86_400_000))
  for (const conversation of [...active, quiet]) await sync.call(conversation)
  sync.startWorker()
  await untilSynced(sync.database.pool)
  await sync.database.pool.query(
    `INSERT INTO kommo.replicas (id, role, seen_at) VALUES (gen_random_uuid(), 'receiver', now() - interval '1 h')`,
  )
  sync.simulated.stats.reset()
  for (const conversation of active) conversation.addMessage({ from: 'manager', text: 'while you were away' })

  heartbeat('receiver')
  reconcile(3_600_000)
  await vi.waitFor(async () => {
    for (const conversation of active) {
      expect(await sync.storedIds(conversation)).toEqual(existingIds(conversation))
    }
  }, SOON)
  expect(sync.simulated.stats.historyRequestsOf(quiet.id)).toBe(0)
})

test('every process has its row, also after it has stopped', async () => {
  for (const role of ['all', 'receiver', 'worker'] as const) heartbeat(role)
  await vi.waitFor(async () => {
    const rows = await sync.database.prisma.replica.findMany()
    expect(rows.map(({ role }) => role).toSorted()).toEqual(['all', 'receiver', 'worker'])
  }, SOON)
})

test('a receiver that was there while the database was away is no absence', async () => {
  const conversation = generate(3)
  await sync.call(conversation)
  heartbeat('receiver', 20)
  const seenAt = async () => (await sync.database.prisma.replica.findFirst())?.seenAt.getTime() ?? 0
  await vi.waitUntil(seenAt, SOON)
  await sync.database.pool.query("UPDATE kommo.replicas SET seen_at = now() - interval '1 h'")
  await vi.waitUntil(async () => (await seenAt()) > Date.now() - 60_000, SOON)
  expect(await sync.row(conversation)).toMatchObject({ readAgainAt: null })
})
