import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  blockChannel,
  channelBlockedForMs,
  clearRefusals,
  reserveRequest,
} from '../../../src/store/rate-limits.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'

let database: TestDatabase
let made = 0

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

const newChannel = () => `channel-${(made += 1)}`
const blockedForMs = (channelId: string) => channelBlockedForMs(database.prisma, channelId)

const refuse = (channelId: string, pauseMs: number | null = null) =>
  blockChannel(database.prisma, channelId, { pauseMs, firstPauseMs: 10_000, reason: 'refused' })

const endPause = (channelId: string) =>
  database.pool.query(
    "UPDATE kommo.rate_limits SET blocked_until = now() - interval '1 s' WHERE channel_id = $1",
    [channelId],
  )

async function expectPause(channelId: string, ms: number): Promise<void> {
  const left = await blockedForMs(channelId)
  expect(left).toBeGreaterThan(ms - Math.min(5000, ms / 2))
  expect(left).toBeLessThanOrEqual(ms)
}

test('the first slot of a channel is now, and those that follow are evenly apart', async () => {
  const channelId = newChannel()
  const slots: Date[] = []
  for (let count = 0; count < 5; count += 1) {
    const token = await reserveRequest(database.prisma, channelId, 10_000)
    if (token.kind !== 'slot') throw new Error('the channel is free')
    if (count === 0) expect(token.waitMs).toBe(0)
    slots.push(token.at)
  }
  const gaps = slots.slice(1).map((slot, place) => slot.getTime() - (slots[place]?.getTime() ?? 0))
  for (const gap of gaps) expect(Math.abs(gap - 10_000)).toBeLessThanOrEqual(1)
})

test('a channel that rested has saved up nothing', async () => {
  const channelId = newChannel()
  await reserveRequest(database.prisma, channelId, 10_000)
  await database.pool.query("UPDATE kommo.rate_limits SET next_request_at = now() - interval '1 h'")
  expect(await reserveRequest(database.prisma, channelId, 10_000)).toMatchObject({ waitMs: 0 })
  const second = await reserveRequest(database.prisma, channelId, 10_000)
  expect(second.kind === 'slot' && second.waitMs).toBeGreaterThan(5000)
})

test('a blocked channel gives no slot, and tells why and how long', async () => {
  const channelId = newChannel()
  await refuse(channelId, 5000)
  const token = await reserveRequest(database.prisma, channelId, 10)
  expect(token).toMatchObject({ kind: 'blocked', reason: 'refused' })
  await expectPause(channelId, 5000)
  await endPause(channelId)
  expect(await blockedForMs(channelId)).toBe(0)
  expect((await reserveRequest(database.prisma, channelId, 10)).kind).toBe('slot')
})

test('channels do not block one another', async () => {
  const channelId = newChannel()
  await refuse(channelId)
  expect((await reserveRequest(database.prisma, newChannel(), 10)).kind).toBe('slot')
})

test('refusals one after the other double the pause, up to a quarter of an hour', async () => {
  const channelId = newChannel()
  for (const pauseMs of [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 900_000, 900_000]) {
    await refuse(channelId)
    await expectPause(channelId, pauseMs)
    await endPause(channelId)
  }
})

test('a pause that Kommo asked for is kept, and a shorter one does not end a longer one', async () => {
  const channelId = newChannel()
  await refuse(channelId, 60_000)
  await refuse(channelId, 1000)
  await expectPause(channelId, 60_000)
})

test('refusals of requests under way together count once', async () => {
  const channelId = newChannel()
  await Promise.all(Array.from({ length: 5 }, () => refuse(channelId)))
  await endPause(channelId)
  await refuse(channelId)
  await expectPause(channelId, 20_000)
})

test('refusals of requests under way together do not lengthen the pause', async () => {
  const channelId = newChannel()
  await Promise.all(Array.from({ length: 5 }, () => refuse(channelId)))
  await expectPause(channelId, 10_000)
})

test('an answer after the pause makes the next refusal the first again', async () => {
  const channelId = newChannel()
  await refuse(channelId)
  await endPause(channelId)
  await clearRefusals(database.prisma, channelId)
  await refuse(channelId)
  await expectPause(channelId, 10_000)
})

test('an answer during the pause ends neither the pause nor the count', async () => {
  const channelId = newChannel()
  await refuse(channelId)
  await clearRefusals(database.prisma, channelId)
  await expectPause(channelId, 10_000)
  await endPause(channelId)
  await refuse(channelId)
  await expectPause(channelId, 20_000)
})
