import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ClaimedConversation, Walk } from '../../../src/domain/conversation.ts'
import { parseScopeId } from '../../../src/domain/scope.ts'
import type { MappedRecord } from '../../../src/domain/message.ts'
import type { InboxWebhook } from '../../../src/domain/webhook.ts'
import { SETTLE_MS } from '../../../src/store/call.ts'
import {
  LEASE_MS,
  LeaseLostError,
  callForSync,
  claimConversations,
  completeAnswered,
  failConversation,
  isKnownSince,
  nextDueInMs,
  releaseConversation,
  renewLeases,
} from '../../../src/store/conversations.ts'
import { blockChannel } from '../../../src/store/rate-limits.ts'
import { storeRecords } from '../../../src/store/records.ts'
import { storeWalkPage } from '../../../src/store/walk-page.ts'
import { recordWebhooks } from '../../../src/store/webhook-events.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'
import { SCOPE, at, recordSeen } from '../../helpers/sighting.ts'
import { SOON } from '../../helpers/soon.ts'

const ID = 'conversation-1'
const CHANNEL = parseScopeId(SCOPE).channelId

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
beforeEach(() =>
  database.pool.query('TRUNCATE kommo.webhook_events, kommo.conversations, kommo.rate_limits CASCADE'),
)
afterAll(() => database.drop())

const row = (id = ID) => database.prisma.conversation.findUniqueOrThrow({ where: { id } })
const record = (...webhooks: Partial<InboxWebhook>[]) =>
  recordWebhooks(
    database.prisma,
    webhooks.map((known) => inboxWebhook(known)),
  )
const callOperator = (full = false) =>
  callForSync(database.prisma, { conversationId: ID, scopeId: SCOPE, full, patient: false })

/** The settle time, the read interval, a lease or a back-off is over. */
const letTimePass = () =>
  database.pool.query("UPDATE kommo.conversations SET run_after = now() - interval '1 s'")

async function claim(): Promise<ClaimedConversation> {
  const [claimed] = await claimConversations(database.prisma, CHANNEL, 1)
  if (claimed === undefined) throw new Error('nothing is due')
  return claimed
}

/** A history read that finds these messages. */
async function readHistory(claimed: ClaimedConversation, ...ids: string[]): Promise<void> {
  const records = ids.map((id) => recordSeen({ id, conversationId: claimed.id }))
  await completeWalk(claimed, claimed.walk, records)
}

/** A page that shows nothing missing. */
const NOTHING_ELSE = {
  lastMessageAt: at(0),
  stretch: { observedAt: at(0), ids: [], newestAt: null, oldestAt: null, isHead: false, isEnd: false },
}

const completeWalk = (claimed: ClaimedConversation, walk: Walk, records: readonly MappedRecord[] = []) =>
  storeWalkPage(database.prisma, claimed, walk, { ...NOTHING_ELSE, records, next: { reachedEnd: true } })

const checkpointWalk = (claimed: ClaimedConversation, walk: Walk, records: readonly MappedRecord[] = []) =>
  storeWalkPage(database.prisma, claimed, walk, {
    ...NOTHING_ELSE,
    records,
    next: { offset: walk.offset, tail: walk.tail },
  })

describe('a call for a sync', () => {
  /** The column is rounded to milliseconds. */
  function expectSettling(dueInMs: number | null): void {
    expect(Math.abs((dueInMs ?? Number.NaN) - SETTLE_MS)).toBeLessThanOrEqual(1)
  }

  test('of a new conversation is due after the settle time', async () => {
    // In one transaction all is one moment.
    await database.prisma.$transaction(async (tx) => {
      await recordWebhooks(tx, [inboxWebhook()])
      expect(await claimConversations(tx, CHANNEL, 5)).toEqual([])
      expectSettling(await nextDueInMs(tx, CHANNEL))
    })
    await expect.poll(() => claimConversations(database.prisma, CHANNEL, 5), SOON).toHaveLength(1)
  })

  test('wakes an idle conversation, after the settle time', async () => {
    await record({})
    await letTimePass()
    await readHistory(await claim())
    await letTimePass()
    await database.prisma.$transaction(async (tx) => {
      await recordWebhooks(tx, [inboxWebhook()])
      expectSettling(await nextDueInMs(tx, CHANNEL))
    })
  })

  test('does not cancel a back-off', async () => {
    await record({})
    await letTimePass()
    await failConversation(database.prisma, await claim(), { message: 'no answer', retryInMs: 60_000 })
    const before = await row()
    await record({})
    expect(await row()).toMatchObject({ runAfter: before.runAfter, attempts: 1, requested: 2n })
  })

  test('does not shorten a lease', async () => {
    await record({})
    await letTimePass()
    await claim()
    const { runAfter } = await row()
    await record({})
    await callOperator()
    expect(await row()).toMatchObject({ runAfter, requested: 3n })
  })

  test('revives a dead conversation', async () => {
    await record({})
    await letTimePass()
    await failConversation(database.prisma, await claim(), { message: 'gone', retryInMs: null })
    expect((await row()).deadAt).not.toBeNull()
    await letTimePass()
    expect(await claimConversations(database.prisma, CHANNEL, 1)).toEqual([])
    await record({})
    expect(await row()).toMatchObject({ deadAt: null, attempts: 0 })
    await letTimePass()
    expect(await claimConversations(database.prisma, CHANNEL, 1)).toHaveLength(1)
  })

  test('by an operator does not wait for a back-off', async () => {
    await record({})
    await letTimePass()
    await failConversation(database.prisma, await claim(), { message: 'no answer', retryInMs: 60_000 })
    await callOperator()
    expect(await claimConversations(database.prisma, CHANNEL, 1)).toMatchObject([
      { attempts: 0, requested: 2n },
    ])
  })

  test('by an operator for an unknown conversation needs a scope', async () => {
    const call = { conversationId: ID, scopeId: null, full: false, patient: false }
    expect(await callForSync(database.prisma, call)).toBe(false)
    expect(await database.prisma.conversation.count()).toBe(0)
    expect(await callForSync(database.prisma, { ...call, scopeId: SCOPE })).toBe(true)
    expect(await row()).toMatchObject({ scopeId: SCOPE, requested: 1n })
    expect(await callForSync(database.prisma, call)).toBe(true)
    expect(await row()).toMatchObject({ scopeId: SCOPE, requested: 2n })
  })

  test('by an operator does not move a known conversation into another scope', async () => {
    await callOperator()
    await callForSync(database.prisma, {
      conversationId: ID,
      scopeId: 'other_scope',
      full: false,
      patient: false,
    })
    expect((await row()).scopeId).toBe(SCOPE)
  })

  test('for a full walk is full until a walk that began after it is complete', async () => {
    await callOperator()
    const first = await claim()
    expect(first.walk.full).toBe(false)
    await callOperator(true)
    await readHistory(first)
    await letTimePass()
    const second = await claim()
    expect(second.walk.full).toBe(true)
    await readHistory(second)
    await callOperator()
    expect((await claim()).walk.full).toBe(false)
  })
})

describe('claiming', () => {
  test('gives a conversation to one of many claimers', async () => {
    await record(...Array.from({ length: 60 }, (_, number) => ({ conversationId: `c-${number}` })))
    await letTimePass()
    const claims = await Promise.all(
      Array.from({ length: 30 }, () => claimConversations(database.prisma, CHANNEL, 4)),
    )
    const ids = claims.flat().map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    const rest = await claimConversations(database.prisma, CHANNEL, 60)
    expect(ids.length + rest.length).toBe(60)
  })

  test('neither waits for a claim that is being made nor takes the same', async () => {
    await record(...[1, 2, 3, 4].map((n) => ({ conversationId: `c${n}` })))
    await letTimePass()
    const made = await database.prisma.$transaction(async (tx) => {
      const first = await claimConversations(tx, CHANNEL, 2, 0)
      return [first, await claimConversations(database.prisma, CHANNEL, 4)]
    })
    expect(made.map((claims) => claims.length)).toEqual([2, 2])
    expect(new Set(made.flat().map(({ id }) => id)).size).toBe(4)
  })

  test('gives the longest waiting first, and no more than asked for', async () => {
    await record({ conversationId: 'late' }, { conversationId: 'early' })
    await letTimePass()
    await database.pool.query("UPDATE kommo.conversations SET run_after = '2020-01-01' WHERE id = 'early'")
    expect(await claimConversations(database.prisma, CHANNEL, 1)).toMatchObject([{ id: 'early' }])
  })

  test('gives none of another channel, and none of a blocked one', async () => {
    await record({}, { conversationId: 'other', scopeId: 'free_account' })
    await letTimePass()
    const pause = { pauseMs: 60_000, firstPauseMs: 1, reason: 'refused' }
    await blockChannel(database.prisma, CHANNEL, pause)
    expect(await claimConversations(database.prisma, CHANNEL, 5)).toEqual([])
    expect(await claimConversations(database.prisma, 'free', 5)).toMatchObject([{ id: 'other' }])
    await database.pool.query('UPDATE kommo.rate_limits SET blocked_until = now()')
    expect(await claimConversations(database.prisma, CHANNEL, 5)).toMatchObject([{ id: ID }])
  })

  test('a conversation of a blocked channel does not fall due before the block ends', async () => {
    await record({})
    await letTimePass()
    const pause = { pauseMs: 60_000, firstPauseMs: 1, reason: 'refused' }
    await blockChannel(database.prisma, SCOPE.slice(0, 36), pause)
    const dueInMs = await nextDueInMs(database.prisma, CHANNEL)
    expect(dueInMs ?? Number.POSITIVE_INFINITY).toBeGreaterThan(50_000)
  })

  test('nothing falls due when nothing is called for', async () => {
    expect(await nextDueInMs(database.prisma, CHANNEL)).toBeNull()
  })
})

describe('a lease', () => {
  const page: Walk = { number: 1, requested: 1n, full: false, offset: 49, tail: ['a', 'b'] }

  test('keeps others away, and a checkpoint renews it', async () => {
    await callOperator()
    const claimed = await claim()
    expect(await claimConversations(database.prisma, CHANNEL, 1)).toEqual([])
    await database.pool.query("UPDATE kommo.conversations SET run_after = now() + interval '1 s'")
    await checkpointWalk(claimed, page)
    expect(await nextDueInMs(database.prisma, CHANNEL)).toBeGreaterThan(LEASE_MS - 5000)
  })

  test.each([
    ['checkpoint', (old: ClaimedConversation) => checkpointWalk(old, page, [recordSeen()])],
    ['completion', (old: ClaimedConversation) => completeWalk(old, page, [recordSeen()])],
  ])('that ran out and was taken makes a %s fail and write nothing', async (_write, write) => {
    await callOperator()
    const old = await claim()
    await letTimePass()
    const taken = await claim()
    expect(taken.claimId).not.toBe(old.claimId)
    const before = await row()
    await expect(write(old)).rejects.toThrow(LeaseLostError)
    expect(await row()).toEqual(before)
    expect(await database.prisma.message.count()).toBe(0)
  })

  test('that ran out and was taken cannot be released, failed, renewed or answered by its old holder', async () => {
    await callOperator()
    const old = await claim()
    await letTimePass()
    await claim()
    const before = await row()
    await releaseConversation(database.prisma, old, 'stopped')
    await expect(
      failConversation(database.prisma, old, { message: 'no answer', retryInMs: null }),
    ).rejects.toThrow(LeaseLostError)
    await renewLeases(database.prisma, [old])
    await completeAnswered(database.prisma, [old])
    expect(await row()).toEqual(before)
  })

  test('that ran out is taken over at the checkpoint', async () => {
    await callOperator()
    await checkpointWalk(await claim(), page)
    await letTimePass()
    expect((await claim()).walk).toEqual(page)
  })

  test('given back is free at once', async () => {
    await callOperator()
    await releaseConversation(database.prisma, await claim(), 'stopped')
    expect(await row()).toMatchObject({ claimId: null, attempts: 0, lastError: 'stopped' })
    expect(await claimConversations(database.prisma, CHANNEL, 1)).toHaveLength(1)
  })
})

describe('completion', () => {
  test('answers only what was called for when the walk began', async () => {
    await record({})
    await letTimePass()
    const claimed = await claim()
    await record({}, {})
    await readHistory(claimed)
    expect(await row()).toMatchObject({ requested: 3n, processed: 1n, historyComplete: true, claimId: null })
    await letTimePass()
    expect(await claimConversations(database.prisma, CHANNEL, 1)).toMatchObject([{ requested: 3n }])
  })

  test('of a resumed walk answers only what was called for when it began', async () => {
    await record({})
    await letTimePass()
    const claimed = await claim()
    await checkpointWalk(claimed, { ...claimed.walk, offset: 49, tail: ['a'] })
    await record({})
    await letTimePass()
    await readHistory(await claim())
    expect(await row()).toMatchObject({ requested: 2n, processed: 1n, walkOffset: null, walkTail: [] })
  })

  test('clears what failed before', async () => {
    await callOperator()
    await failConversation(database.prisma, await claim(), { message: 'no answer', retryInMs: 0 })
    await readHistory(await claim())
    expect(await row()).toMatchObject({
      attempts: 0,
      lastError: null,
      walksCompleted: 1,
      lastMessageAt: at(0),
    })
  })

  test('a walk under way has a hole until it is complete', async () => {
    await callOperator()
    await readHistory(await claim())
    await callOperator()
    const claimed = await claim()
    await checkpointWalk(claimed, { ...claimed.walk, offset: 49 })
    expect((await row()).historyComplete).toBe(false)
  })

  test('a message is known since the walk before the one that saw it first', async () => {
    await callOperator()
    const first = await claim()
    await readHistory(first, 'seen')
    expect(await isKnownSince(database.prisma, 'seen', first.walk)).toBe(false)
    await callOperator()
    const { walk } = await claim()
    expect(await isKnownSince(database.prisma, 'seen', walk)).toBe(true)
    expect(await isKnownSince(database.prisma, 'unseen', walk)).toBe(false)
  })
})

describe('a claim is answered', () => {
  async function claimAfter(...webhooks: Partial<InboxWebhook>[]): Promise<ClaimedConversation> {
    await record(...webhooks)
    await letTimePass()
    return claim()
  }

  test('when a completed walk saw the message of every open call', async () => {
    const claimed = await claimAfter({ messageId: 'a' })
    await record({ messageId: 'b' }, { messageId: 'c' })
    await readHistory(claimed, 'a', 'b', 'c')
    await letTimePass()
    const answered = await claim()
    expect(answered.answered).toBe(true)
    await completeAnswered(database.prisma, [answered])
    expect(await row()).toMatchObject({ requested: 3n, processed: 3n, claimId: null, historyComplete: true })
  })

  test('not when one message was not seen', async () => {
    const claimed = await claimAfter({ messageId: 'a' })
    await record({ messageId: 'b' }, { messageId: 'c' })
    await readHistory(claimed, 'a', 'b')
    await letTimePass()
    expect((await claim()).answered).toBe(false)
  })

  test('not when only the webhook told of the message', async () => {
    const claimed = await claimAfter({ messageId: 'a' })
    await record({ messageId: 'b' })
    await storeRecords(database.prisma, [recordSeen({ id: 'b' })], null)
    await readHistory(claimed, 'a')
    await letTimePass()
    expect((await claim()).answered).toBe(false)
  })

  test('not when only an unfinished walk saw the message', async () => {
    const claimed = await claimAfter({ messageId: 'a' })
    await storeRecords(database.prisma, [recordSeen({ id: 'a' })], claimed.walk.number)
    await letTimePass()
    expect((await claim()).answered).toBe(false)
  })

  test("not for an operator's call, alone or among webhooks", async () => {
    const claimed = await claimAfter({ messageId: 'a' })
    await record({ messageId: 'b' })
    await callOperator()
    await readHistory(claimed, 'a', 'b')
    await letTimePass()
    const second = await claim()
    expect(second.answered).toBe(false)
    await readHistory(second)
    await callOperator()
    expect((await claim()).answered).toBe(false)
  })

  test('not for a webhook that names no message', async () => {
    const claimed = await claimAfter({ messageId: 'a' })
    await record({ kind: 'unknown', messageId: null })
    await readHistory(claimed, 'a')
    await letTimePass()
    expect((await claim()).answered).toBe(false)
  })

  test('not for a reaction, which tells nothing of when its message was made', async () => {
    await readHistory(await claimAfter({ messageId: 'a' }), 'a')
    await letTimePass()
    expect((await claimAfter({ kind: 'reaction', messageId: 'a' })).answered).toBe(false)
  })
})
