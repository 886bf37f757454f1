import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Role } from '../../../src/config.ts'
import { parseScopeId } from '../../../src/domain/scope.ts'
import { blockChannel } from '../../../src/store/rate-limits.ts'
import { callForDueReads, scheduleReads } from '../../../src/store/reconcile.ts'
import { recordReceiver, recordSignOfLife } from '../../../src/store/replicas.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { SCOPE } from '../../helpers/sighting.ts'

const HOUR_MS = 3_600_000
const { channelId } = parseScopeId(SCOPE)

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase({ maxConnections: 10 })
})
beforeEach(() =>
  database.pool.query('TRUNCATE kommo.conversations, kommo.rate_limits, kommo.replicas CASCADE'),
)
afterAll(() => database.drop())

const row = (id: string) => database.prisma.conversation.findUniqueOrThrow({ where: { id } })

/** A conversation whose walk is complete; columns as SQL, what is not said is usual. */
async function conversation(id: string, columns: Record<string, string> = {}): Promise<void> {
  const all = { id: `'${id}'`, scope_id: `'${SCOPE}'`, requested: '1', processed: '1', ...columns }
  const usual = { walks_completed: '1', history_complete: 'true', synced_at: 'now()', full_walk_at: 'now()' }
  const values = { ...usual, ...all }
  await database.pool.query(
    `INSERT INTO kommo.conversations (${Object.keys(values).join()}) VALUES (${Object.values(values).join()})`,
  )
}

const call = (atMost: number, intervalMs = HOUR_MS) =>
  callForDueReads(database.prisma, { channelId, intervalMs, atMost })

async function called(): Promise<string[]> {
  const rows = await database.prisma.conversation.findMany({ where: { requested: { gt: 1 } } })
  return rows.map(({ id }) => id).toSorted()
}

const ago = (interval: string) => `now() - interval '${interval}'`

describe('when a conversation is read again', () => {
  test.each([
    ['0 h', 1],
    ['47 h', 1],
    ['50 h', 2],
    ['10 days 1 h', 10],
    ['5 years', 30 * 24],
  ])('after %s of quiet it rests %i h, give or take 10 %', async (quiet, hours) => {
    for (let n = 0; n < 20; n += 1) await conversation(`c${n}`, { last_message_at: ago(quiet) })
    expect(await scheduleReads(database.prisma, HOUR_MS)).toBe(20)

    const rows = await database.prisma.conversation.findMany()
    const rests = rows.map((c) => ((c.readAgainAt?.getTime() ?? 0) - (c.syncedAt?.getTime() ?? 0)) / HOUR_MS)
    expect(Math.min(...rests)).toBeGreaterThanOrEqual(hours * 0.9 - 0.001)
    expect(Math.max(...rests)).toBeLessThanOrEqual(hours * 1.1 + 0.001)
    expect(new Set(rests).size).toBeGreaterThan(10)
    expect(await scheduleReads(database.prisma, HOUR_MS)).toBe(0)
  })

  test('one without messages counts from when it was found', async () => {
    await conversation('empty', { created_at: ago('100 h') })
    await scheduleReads(database.prisma, HOUR_MS)
    const { readAgainAt, syncedAt } = await row('empty')
    expect((readAgainAt?.getTime() ?? 0) - (syncedAt?.getTime() ?? 0)).toBeGreaterThan(3 * HOUR_MS)
  })

  test('those that would be due already are spread over a rest', async () => {
    for (let n = 0; n < 50; n += 1) {
      await conversation(`c${n}`, { last_message_at: 'now()', synced_at: ago('3 days') })
    }
    await scheduleReads(database.prisma, HOUR_MS)
    const rows = await database.prisma.conversation.findMany()
    const inHours = rows.map((c) => ((c.readAgainAt?.getTime() ?? 0) - Date.now()) / HOUR_MS)
    expect(Math.min(...inHours)).toBeGreaterThan(-0.1)
    expect(Math.max(...inHours)).toBeLessThan(1.1)
    expect(Math.max(...inHours) - Math.min(...inHours)).toBeGreaterThan(0.5)
  })

  test('what is behind, dead or was never read gets no time', async () => {
    await conversation('behind', { requested: '2' })
    await conversation('dead', { dead_at: 'now()' })
    await conversation('unread', { synced_at: 'NULL' })
    expect(await scheduleReads(database.prisma, HOUR_MS)).toBe(0)
  })
})

describe('the call for those that are due', () => {
  test('newest activity comes first, a bounded number at a time', async () => {
    await conversation('year', { read_again_at: ago('1 h'), last_message_at: ago('1 year') })
    await conversation('week', { read_again_at: ago('1 h'), last_message_at: ago('7 days') })
    await conversation('today', { read_again_at: ago('1 h'), last_message_at: ago('1 min') })
    await conversation('later', { read_again_at: "now() + interval '1 min'", last_message_at: 'now()' })

    const order: string[][] = []
    for (let n = 0; n < 4; n += 1) {
      await call(1)
      order.push(await called())
    }
    expect(order).toEqual([
      ['today'],
      ['today', 'week'],
      ['today', 'week', 'year'],
      ['today', 'week', 'year'],
    ])
    expect(await row('today')).toMatchObject({ requested: 2n, processed: 1n, readAgainAt: null })
  })

  test('one that has waited for many of its rests is not put off for ever', async () => {
    await conversation('today', { read_again_at: ago('1 min'), last_message_at: 'now()' })
    await conversation('week', { read_again_at: ago('1 day'), last_message_at: ago('7 days') })
    await call(1)
    expect(await called()).toEqual(['week'])
  })

  test('several replicas at once call each conversation once', async () => {
    for (let n = 0; n < 40; n += 1) await conversation(`c${n}`, { read_again_at: ago('1 min') })
    const counts = await Promise.all(Array.from({ length: 5 }, () => call(40)))
    expect(counts.reduce((sum, count) => sum + count)).toBeLessThanOrEqual(40)
    while ((await called()).length < 40) await call(80)
    const rows = await database.prisma.conversation.findMany()
    expect(new Set(rows.map(({ requested }) => requested))).toEqual(new Set([2n]))
  })

  test('several replicas share what may be called', async () => {
    for (const role of ['worker', 'all', 'receiver'] as const) {
      await recordSignOfLife(database.prisma, { id: randomUUID(), role })
    }
    for (let n = 0; n < 40; n += 1) await conversation(`c${n}`, { read_again_at: ago('1 min') })
    expect(await call(10)).toBe(5)
  })

  test('a broken number is reached on average', async () => {
    for (let n = 0; n < 40; n += 1) await conversation(`c${n}`, { read_again_at: ago('1 min') })
    let calls = 0
    for (let n = 0; n < 200; n += 1) {
      calls += await call(0.25)
      await database.pool.query(
        `UPDATE kommo.conversations SET processed = requested, read_again_at = ${ago('1 min')}`,
      )
    }
    expect(calls).toBeGreaterThan(20)
    expect(calls).toBeLessThan(90)
  })

  test('a channel that is blocked gets none', async () => {
    await conversation('c', { read_again_at: ago('1 min') })
    await blockChannel(database.prisma, channelId, { pauseMs: 60_000, firstPauseMs: 1000, reason: 'test' })
    expect(await call(10)).toBe(0)
  })

  test('a channel that is not ours gets none', async () => {
    await conversation('c', { read_again_at: ago('1 min'), scope_id: "'other-channel_account'" })
    expect(await call(10)).toBe(0)
  })

  test('what is open already takes up the room, what waits for its back-off does not', async () => {
    for (let n = 0; n < 20; n += 1) await conversation(`due${n}`, { read_again_at: ago('1 min') })
    for (let n = 0; n < 7; n += 1) {
      await conversation(`open${n}`, { requested: '1', processed: '0', run_after: 'now()' })
      const failing = { requested: '1', processed: '0', attempts: '9', run_after: "now() + interval '1 h'" }
      await conversation(`failing${n}`, failing)
    }
    expect(await call(10)).toBe(3)
    expect(await call(10)).toBe(0)
  })

  test('a history that was not read to its end for 30 days is read whole', async () => {
    await conversation('whole', { read_again_at: ago('1 min'), full_walk_at: ago('31 days') })
    await conversation('never', {
      read_again_at: ago('1 min'),
      full_walk_at: 'NULL',
      created_at: ago('31 days'),
    })
    await conversation('lately', { read_again_at: ago('1 min'), full_walk_at: ago('29 days') })
    expect(await call(10)).toBe(3)
    expect(await row('whole')).toMatchObject({ requested: 2n, fullWalkRequest: 2n })
    expect(await row('never')).toMatchObject({ requested: 2n, fullWalkRequest: 2n })
    expect(await row('lately')).toMatchObject({ requested: 2n, fullWalkRequest: null })
  })

  test('it wakes the workers, and only then', async () => {
    const client = await database.pool.connect()
    try {
      const woken: string[] = []
      client.on('notification', ({ channel }) => woken.push(channel))
      await client.query('LISTEN kommo_sync')
      await call(10)
      await client.query('SELECT 1')
      expect(woken).toEqual([])
      await conversation('c', { read_again_at: ago('1 min') })
      await call(10)
      await client.query('SELECT 1')
      expect(woken).toEqual(['kommo_sync'])
    } finally {
      client.release(true)
    }
  })
})

describe('an absence of receivers', () => {
  const start = (role: Role = 'receiver', intervalMs = HOUR_MS) =>
    recordReceiver(database, { id: randomUUID(), role }, { absentAfterMs: 30_000, intervalMs })

  const lastSeen = (role: Role, interval: string) =>
    database.pool.query(
      `INSERT INTO kommo.replicas (id, role, seen_at) VALUES (gen_random_uuid(), $1, ${ago(interval)})`,
      [role],
    )

  test('the first start of all finds none', async () => {
    await conversation('c', { last_message_at: 'now()' })
    expect(await start()).toBeNull()
    expect(await row('c')).toMatchObject({ readAgainAt: null, requested: 1n })
  })

  test('what was active up to a day before is read before all else, newest activity first', async () => {
    await lastSeen('receiver', '2 h')
    await conversation('old', { last_message_at: ago('30 h') })
    await conversation('overdue', { last_message_at: ago('30 h'), read_again_at: ago('3 h') })
    await conversation('yesterday', { last_message_at: ago('20 h') })
    await conversation('today', { last_message_at: ago('3 h'), read_again_at: "now() + interval '50 min'" })
    await conversation('dead', { last_message_at: ago('3 h'), dead_at: 'now()' })

    expect(await start()).toMatchObject({ conversations: 2 })
    expect(await row('old')).toMatchObject({ readAgainAt: null })
    expect(await row('dead')).toMatchObject({ readAgainAt: null })
    await call(1)
    expect(await called()).toEqual(['today'])
    await call(1)
    expect(await called()).toEqual(['today', 'yesterday'])
  })

  test('several receivers that start together find it once', async () => {
    await lastSeen('all', '1 h')
    await conversation('c', { last_message_at: ago('2 h') })
    const found = await Promise.all([start(), start(), start('all'), start()])
    expect(found.filter((absence) => absence !== null)).toHaveLength(1)
  })

  test('a short one is none, and a worker is no receiver', async () => {
    await lastSeen('worker', '0 s')
    await lastSeen('receiver', '20 s')
    expect(await start()).toBeNull()
    await database.pool.query(
      `UPDATE kommo.replicas SET seen_at = ${ago('1 min')} WHERE role IN ('receiver', 'all')`,
    )
    expect(await start()).not.toBeNull()
  })

  test('a walk that is under way is followed by another', async () => {
    await lastSeen('receiver', '1 h')
    await conversation('walking', {
      requested: '2',
      last_message_at: ago('2 h'),
      claim_id: 'gen_random_uuid()',
    })
    await conversation('waiting', { requested: '2', last_message_at: ago('2 h') })
    await start()
    expect(await row('walking')).toMatchObject({ requested: 3n })
    expect(await row('waiting')).toMatchObject({ requested: 2n })
  })

  test('with reconcile turned off it changes nothing', async () => {
    await lastSeen('receiver', '1 h')
    await conversation('c', { last_message_at: ago('2 h') })
    expect(await start('receiver', 0)).toBeNull()
    expect(await row('c')).toMatchObject({ readAgainAt: null })
  })

  test('a long one is known although the rows of old processes go', async () => {
    await lastSeen('receiver', '20 days')
    await lastSeen('worker', '8 days')
    const absence = await start()
    expect(absence?.forMs).toBeGreaterThan(19 * 24 * HOUR_MS)
    expect(await database.prisma.replica.count()).toBe(1)
  })

  test('a process has one row, however often it beats', async () => {
    const replica = { id: randomUUID(), role: 'worker' as const }
    await recordSignOfLife(database.prisma, replica)
    const before = await database.prisma.replica.findFirstOrThrow()
    await recordSignOfLife(database.prisma, replica)
    const [after, ...others] = await database.prisma.replica.findMany()
    expect(others).toEqual([])
    expect(after?.startedAt).toEqual(before.startedAt)
    expect(after?.seenAt.getTime()).toBeGreaterThanOrEqual(before.seenAt.getTime())
  })
})
