import { performance } from 'node:perf_hooks'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createDatabase } from '../../../src/store/connection/database.ts'
import { blockChannel } from '../../../src/store/rate-limits.ts'
import { ChannelBlockedError, type RateLimiter, createRateLimiter } from '../../../src/sync/rate-limiter.ts'
import { createTestDatabase } from '../../helpers/database.ts'
import { SOON } from '../../helpers/soon.ts'

const never = new AbortController().signal

/** Two replicas: each its own pool and limiter on one database. */
async function createReplicas(requestsPerSecond: number) {
  const database = await createTestDatabase()
  const other = createDatabase(database.url, { maxConnections: 5 })
  onTestFinished(async () => {
    await other.close()
    await database.drop()
  })
  const limiters = [database, other].map(({ prisma }) => createRateLimiter(prisma, requestsPerSecond))
  const [first, second] = limiters
  if (first === undefined || second === undefined) throw new Error('unreachable')
  return { database, first, second }
}

/** Takes a turn and lets the request leave at once. */
function momentOf(limiter: RateLimiter, channelId: string, signal: AbortSignal): Promise<Date> {
  return limiter.inTurn(channelId, signal, async (turn) => {
    turn.leave()
    return turn.at
  })
}

/** Keeps the process from doing anything else. */
function beBusy(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

/** The most moments within any second. */
function peakPerSecond(times: readonly number[]): number {
  return Math.max(
    ...times.map((start) => times.filter((time) => time >= start && time < start + 1000).length),
  )
}

/** The moments at which `count` requests of twenty callers of two replicas may leave, 50 a second. */
async function acquireFromBoth(count: number): Promise<number[]> {
  const { first, second } = await createReplicas(50)
  const times: number[] = []
  const acquirers = Array.from({ length: 20 }, async (_, number) => {
    for (let turn = 0; turn < count / 20; turn += 1) {
      await momentOf(number % 2 === 0 ? first : second, 'channel', never)
      times.push(performance.now())
    }
  })
  await Promise.all(acquirers)
  return times
}

test('two replicas together never exceed the rate in any second', async () => {
  expect(peakPerSecond(await acquireFromBoth(120))).toBeLessThanOrEqual(50)
})

// A slot that comes late, because the machine is busy, is given up: that costs rate, and is right.
test('two replicas together come close to the rate', { retry: 3 }, async () => {
  const times = await acquireFromBoth(60)
  const tookMs = Math.max(...times) - Math.min(...times)
  expect(((times.length - 1) / tookMs) * 1000).toBeGreaterThanOrEqual(35)
})

test('a block stops everybody, also those who wait already', async () => {
  const { database, first, second } = await createReplicas(0.5)
  // Their first turn is slower: they look at the clock.
  await momentOf(second, 'other channel', never)
  await momentOf(first, 'channel', never)
  const waiting = [first, second].map((limiter) => momentOf(limiter, 'channel', never))
  const outcomes = Promise.allSettled(waiting)
  // Both have their slot: the first is some two seconds away, the last four.
  await vi.waitFor(async () => {
    const { rows } = await database.pool.query(
      `SELECT next_request_at > now() + interval '4 s' AS reserved FROM kommo.rate_limits WHERE channel_id = 'channel'`,
    )
    expect(rows).toEqual([{ reserved: true }])
  }, SOON)
  await blockChannel(database.prisma, 'channel', { pauseMs: 60_000, firstPauseMs: 1, reason: 'too many' })
  for (const outcome of await outcomes) {
    expect(outcome.status === 'rejected' && outcome.reason).toBeInstanceOf(ChannelBlockedError)
  }
  const refused = momentOf(second, 'channel', never)
  await expect(refused).rejects.toThrow(/channel must not be asked for 5\d s: too many/)
  await expect(refused).rejects.toMatchObject({ retryable: true })
  await momentOf(first, 'a third channel', never)
})

test('a wait ends at once when it is aborted', async () => {
  const { first } = await createReplicas(0.1)
  await momentOf(first, 'channel', never)
  const stopping = new AbortController()
  const waiting = momentOf(first, 'channel', stopping.signal)
  setImmediate(() => stopping.abort())
  await expect(waiting).rejects.toMatchObject({ name: 'AbortError' })
  await expect(momentOf(first, 'channel', stopping.signal)).rejects.toMatchObject({ name: 'AbortError' })
})

test('the slot is the moment of the request by the clock of the database', async () => {
  const { database, first } = await createReplicas(10)
  const now = async () =>
    (await database.pool.query<{ now: Date }>('SELECT clock_timestamp() AS now')).rows[0]?.now
  const before = await now()
  const at = await momentOf(first, 'channel', never)
  expect(Math.abs(at.getTime() - (before?.getTime() ?? 0))).toBeLessThan(1000)
})

test('a request that is about to leave late does not; it takes another turn, with more time', async () => {
  const { first } = await createReplicas(20)
  const begun: Date[] = []
  const left = await first.inTurn('channel', never, async (turn) => {
    begun.push(turn.at)
    // As a slow handshake would: 60 ms each time.
    beBusy(60)
    turn.leave()
    return turn.at
  })
  expect(begun.length).toBeGreaterThanOrEqual(4)
  expect(begun.at(-1)).toBe(left)
  // Up to 80 ms late (more on a busy machine), so the next one is that much further away.
  const next = await momentOf(first, 'channel', never)
  expect(next.getTime() - left.getTime()).toBeGreaterThanOrEqual(Math.floor(53 + 60))
})

test('what else goes wrong while asking is thrown as it is, and takes no other turn', async () => {
  const { first } = await createReplicas(20)
  const fault = new Error('no answer')
  let turns = 0
  const asking = first.inTurn('channel', never, async () => {
    turns += 1
    throw fault
  })
  await expect(asking).rejects.toBe(fault)
  expect(turns).toBe(1)
})
