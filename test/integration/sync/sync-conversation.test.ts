import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Conversation } from '../../../src/simulated-kommo/conversation.ts'
import { syncConversation } from '../../../src/sync/sync-conversation.ts'
import { type SyncSetup, existingIds, setUpSync } from '../../helpers/worker.ts'

let sync: SyncSetup

beforeAll(async () => {
  sync = await setUpSync()
})
beforeEach(() => {
  sync.simulated.faults.clear()
  sync.simulated.stats.reset()
})
afterAll(() => sync.close())

const generate = (messages: number) => sync.simulated.conversations.generate({ messages })
const requestsOf = ({ id }: Conversation) => sync.simulated.stats.historyRequestsOf(id)

/** Changes a conversation before its history request `number` is answered. */
function beforeRequest(changes: Record<number, () => void>): void {
  sync.simulated.faults.onHistoryRequest(({ number }) => changes[number]?.())
}

function remove(conversation: Conversation, from: number, to: number): void {
  for (const { id } of conversation.page(from, to - from)) conversation.removeMessage(id)
}

function gain(conversation: Conversation, count: number): void {
  for (let made = 0; made < count; made += 1) conversation.clientWrites(`gained ${made}`)
}

describe('a first walk', () => {
  test.each([0, 1, 49, 50, 51, 99, 100, 101, 437])(
    'through %i messages stores exactly those',
    async (count) => {
      const conversation = generate(count)
      expect(await sync.read(conversation)).toBe('finished')
      expect(await sync.storedIds(conversation)).toEqual(existingIds(conversation))
      expect(requestsOf(conversation)).toBeLessThanOrEqual(Math.ceil(Math.max(0, count - 1) / 49) + 1)
      expect(await sync.row(conversation)).toMatchObject({
        historyComplete: true,
        requested: 1n,
        processed: 1n,
      })
    },
  )

  test('stores what the messages say', async () => {
    const conversation = generate(120)
    await sync.read(conversation)
    const rows = await sync.database.prisma.message.findMany({
      where: { conversationId: conversation.id },
      include: { media: true },
      orderBy: { id: 'asc' },
    })
    const truth = [...conversation.truth()].toSorted((a, b) => (a.id < b.id ? -1 : 1))
    expect(
      rows.map(({ id, text, type, direction, senderId, receiverId, sentAt, media }) => ({
        id,
        text,
        type,
        direction,
        senderId,
        receiverId,
        sentAtMs: sentAt?.getTime(),
        url: media?.url,
      })),
    ).toEqual(
      truth.map(({ id, text, type, direction, senderId, receiverId, sentAtMs, media }) => ({
        id,
        text,
        type,
        direction,
        senderId,
        receiverId,
        sentAtMs,
        url: media?.url,
      })),
    )
    const row = await sync.row(conversation)
    expect(row?.lastMessageAt?.getTime()).toBe(Math.max(...truth.map(({ sentAtMs }) => sentAtMs)))
  })
})

describe('a later walk', () => {
  test.each([30, 50, 200])('through %i unchanged messages costs one request', async (count) => {
    const conversation = generate(count)
    await sync.read(conversation)
    sync.simulated.stats.reset()
    await sync.read(conversation)
    expect(requestsOf(conversation)).toBe(1)
    expect((await sync.row(conversation))?.historyComplete).toBe(true)
  })

  test('to a few new messages costs one request', async () => {
    const conversation = generate(200)
    await sync.read(conversation)
    gain(conversation, 40)
    sync.simulated.stats.reset()
    await sync.read(conversation)
    expect(requestsOf(conversation)).toBe(1)
    expect(await sync.storedIds(conversation)).toEqual(existingIds(conversation))
  })

  test('to many new messages ends where it meets what is known', async () => {
    const conversation = generate(300)
    await sync.read(conversation)
    gain(conversation, 120)
    sync.simulated.stats.reset()
    await sync.read(conversation)
    expect(requestsOf(conversation)).toBe(3)
    expect(await sync.storedIds(conversation)).toEqual(existingIds(conversation))
  })

  test('that is full finds what was imported and edited in the past', async () => {
    const conversation = generate(160)
    await sync.read(conversation)
    const oldest = conversation.page(159, 1)[0]
    if (oldest === undefined) throw new Error('there are 160')
    conversation.importMessage({ text: 'imported', sentAtMs: oldest.sentAtMs + 1 })
    conversation.editMessage(oldest.id, { text: 'edited' })
    await sync.read(conversation, { full: true })
    expect(await sync.storedIds(conversation)).toEqual(existingIds(conversation))
    const row = await sync.database.prisma.message.findUnique({ where: { id: oldest.id } })
    expect(row?.text).toBe('edited')
  })
})

describe('a list that changes between pages leaves no hole', () => {
  test.each<[string, (conversation: Conversation) => Record<number, () => void>]>([
    ['gains a message', (c) => ({ 2: () => gain(c, 1), 3: () => gain(c, 1) })],
    ['gains two pages', (c) => ({ 2: () => gain(c, 100), 5: () => gain(c, 100) })],
    ['gains twenty pages', (c) => ({ 5: () => gain(c, 1000) })],
    ['loses a message', (c) => ({ 2: () => remove(c, 0, 1), 4: () => remove(c, 60, 61) })],
    ['loses what should repeat', (c) => ({ 2: () => remove(c, 49, 50) })],
    ['loses a page', (c) => ({ 3: () => remove(c, 0, 50) })],
    ['loses five pages', (c) => ({ 7: () => remove(c, 0, 250) })],
    ['loses everything', (c) => ({ 4: () => remove(c, 0, c.size) })],
    [
      'gains and loses',
      (c) => ({ 2: () => remove(c, 20, 80), 3: () => gain(c, 70), 4: () => remove(c, 100, 130) }),
    ],
  ])('when it %s', async (_case, changesOf) => {
    const conversation = generate(400)
    const before = new Set(existingIds(conversation))
    beforeRequest(changesOf(conversation))
    expect(await sync.read(conversation)).toBe('finished')
    const stored = new Set(await sync.storedIds(conversation))
    const existing = existingIds(conversation)
    expect(existing.filter((id) => before.has(id) && !stored.has(id))).toEqual([])

    sync.simulated.faults.clear()
    await sync.read(conversation)
    const after = new Set(await sync.storedIds(conversation))
    expect(existing.filter((id) => !after.has(id))).toEqual([])
  })

  test('when a page that did not join was stored, and the next walk meets it', async () => {
    const conversation = generate(400)
    beforeRequest({
      // Page 4 shows messages that were gained since, and joins nothing.
      4: () => gain(conversation, 300),
      // Then so many go that page 5, a step back, joins again: between both lie messages that no page showed.
      5: () => {
        remove(conversation, 300, 398)
        remove(conversation, 294, 300)
        remove(conversation, 0, 147)
      },
    })
    await sync.read(conversation)
    sync.simulated.faults.clear()
    gain(conversation, 1)
    await sync.read(conversation)
    const stored = new Set(await sync.storedIds(conversation))
    expect(existingIds(conversation).filter((id) => !stored.has(id))).toEqual([])
  })
})

test('a walk that was stopped goes on at its checkpoint, and asks for no stored page again', async () => {
  const conversation = generate(437)
  const stopping = new AbortController()
  beforeRequest({ 4: () => stopping.abort() })
  expect(await sync.read(conversation, { stopping: stopping.signal })).toBe('stopped')
  expect(await sync.row(conversation)).toMatchObject({
    walkOffset: 196,
    historyComplete: false,
    processed: 0n,
  })
  await sync.database.pool.query("UPDATE kommo.conversations SET run_after = now() - interval '1 s'")
  const never = new AbortController().signal
  await syncConversation(await sync.claim(), sync.dependencies, { stopping: never, cutOff: never })

  expect(await sync.storedIds(conversation)).toEqual(existingIds(conversation))
  const offsets = sync.simulated.stats.recent().map(({ offset }) => Number(offset))
  expect(offsets).toEqual([0, 49, 98, 147, 196, 245, 294, 343, 392])
})

test('a list whose pages never join is given up with an error, and is not called complete', async () => {
  const conversation = generate(400)
  sync.simulated.faults.onHistoryRequest(() => {
    remove(conversation, 0, conversation.size)
    gain(conversation, 120)
  })
  await expect(sync.read(conversation)).rejects.toMatchObject({ code: 'kommo_payload' })
  expect((await sync.row(conversation))?.historyComplete).toBe(false)
})
