import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Conversation } from '../../../src/simulated-kommo/conversation.ts'
import type { Misbehaviour } from '../../../src/simulated-kommo/faults.ts'
import { startSimulatedKommo, type SimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import { SOON } from '../../helpers/soon.ts'
import { ask, historyAddress } from './sign.ts'

let kommo: SimulatedKommo
let conversation: Conversation

beforeEach(async () => {
  kommo = await startSimulatedKommo()
  conversation = kommo.conversations.generate({ messages: 50 })
})
afterEach(async () => {
  await kommo.close()
})

const readHistory = (): Promise<Response> => ask(kommo, 'GET', historyAddress(conversation))

test.each<[number, string | null, Misbehaviour]>([
  [429, '3', { kind: 'too-many-requests', retryAfter: 3 }],
  [
    429,
    'Tue, 13 Dec 2022 11:00:00 GMT',
    { kind: 'too-many-requests', retryAfter: new Date(1_670_929_200_000) },
  ],
  [429, null, { kind: 'too-many-requests' }],
  [503, '1', { kind: 'status', status: 503, retryAfter: 1 }],
  [500, null, { kind: 'status', status: 500 }],
  [404, null, { kind: 'status', status: 404 }],
  [400, null, { kind: 'status', status: 400 }],
])('answers %i with Retry-After %s', async (status, retryAfter, fault) => {
  kommo.faults.add(fault)
  const response = await readHistory()
  expect(response.status).toBe(status)
  expect(response.headers.get('retry-after')).toBe(retryAfter)
})

test('403 is told as a wrong signature, or as another type', async () => {
  kommo.faults.add({ kind: 'forbidden', times: 1 })
  kommo.faults.add({ kind: 'forbidden', errorType: 'BLOCKED' })
  expect(await (await readHistory()).json()).toMatchObject({ error_type: 'ORIGIN_INVALID_SIGNATURE' })
  expect(await (await readHistory()).json()).toMatchObject({ error_code: 403, error_type: 'BLOCKED' })
})

test('bodies can be unreadable, of another shape, or missing', async () => {
  kommo.faults.add({ kind: 'unreadable-json', times: 1 })
  kommo.faults.add({ kind: 'wrong-shape', body: [1], times: 1 })
  kommo.faults.add({ kind: 'empty', times: 1 })
  await expect((await readHistory()).json()).rejects.toThrow(SyntaxError)
  expect(await (await readHistory()).json()).toEqual([1])
  const empty = await readHistory()
  expect([empty.status, await empty.text()]).toEqual([200, ''])
})

test('a cut-off answer has headers and half a body; a hang-up has neither', async () => {
  kommo.faults.add({ kind: 'cut-off', times: 1 })
  const cut = await readHistory()
  expect(cut.status).toBe(200)
  await expect(cut.text()).rejects.toThrow('terminated')
  kommo.faults.add({ kind: 'hang-up', times: 1 })
  await expect(readHistory()).rejects.toThrow('fetch failed')
  expect((await readHistory()).status).toBe(200)
})

test('slow headers, a slow body and latency delay the right answer', async () => {
  const right = await (await readHistory()).text()
  const slow: Misbehaviour[] = [
    { kind: 'slow-headers', delayMs: 60 },
    { kind: 'slow-body', bytesPerChunk: Math.ceil(right.length / 3), everyMs: 20 },
  ]
  for (const fault of slow) {
    kommo.faults.add({ ...fault, times: 1 })
    const startedAt = performance.now()
    expect(await (await readHistory()).text()).toBe(right)
    expect(performance.now() - startedAt).toBeGreaterThan(50)
  }
  kommo.faults.setLatency(60)
  const startedAt = performance.now()
  await readHistory()
  expect(performance.now() - startedAt).toBeGreaterThan(50)
})

test('a fault meets whom it names, as often as it says, until taken back', async () => {
  const other = kommo.conversations.generate({ messages: 1 })
  const statusOfOther = async () => (await ask(kommo, 'GET', historyAddress(other))).status
  kommo.faults.add({ kind: 'status', status: 500, conversationId: other.id, times: 2 })
  const takeBack = kommo.faults.add({ kind: 'status', status: 503, channelId: kommo.channelId })
  kommo.faults.add({ kind: 'status', status: 400, channelId: 'another' })
  expect((await readHistory()).status).toBe(503)
  expect([await statusOfOther(), await statusOfOther(), await statusOfOther()]).toEqual([500, 500, 503])
  takeBack()
  expect(await statusOfOther()).toBe(200)
  kommo.faults.add({ kind: 'status', status: 503 })
  kommo.faults.clear()
  expect((await readHistory()).status).toBe(200)
})

test('the rate limit admits so many in a second and the statistics see them all', async () => {
  kommo.faults.setRateLimit({ perSecond: 3, retryAfter: 1 })
  const responses = await Promise.all(Array.from({ length: 5 }, readHistory))
  expect(responses.filter(({ status }) => status === 429)).toHaveLength(2)
  expect(kommo.stats.peakPerSecond(kommo.channelId)).toBe(5)
  expect(kommo.stats.snapshot()).toEqual({
    requests: 5,
    historyRequests: 5,
    byStatus: { 200: 3, 429: 2 },
    byChannel: { [kommo.channelId]: 5 },
    byConversation: { [conversation.id]: 5 },
  })
  expect(kommo.stats.recent()).toHaveLength(5)
  expect(kommo.stats.recent()[0]).toMatchObject({ method: 'GET', limit: '50', offset: '0' })
  kommo.stats.reset()
  expect(kommo.stats.peakPerSecond()).toBe(0)
})

test('closing cuts what is under way', async () => {
  kommo.faults.add({ kind: 'slow-headers', delayMs: 3_600_000 })
  const answer = readHistory()
  await expect.poll(() => kommo.stats.snapshot().requests, SOON).toBe(1)
  await Promise.all([expect(answer).rejects.toThrow('fetch failed'), kommo.close()])
})
