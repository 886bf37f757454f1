import { expect, test } from 'vitest'
import { createPlot, generateMessage, indexOfMessage } from '../../../src/simulated-kommo/generate-message.ts'
import { historyRecord } from '../../../src/simulated-kommo/history-record.ts'
import { createClient, createStaff } from '../../../src/simulated-kommo/people.ts'

const cast = { ...createStaff('scope'), ...createClient('test', 'client-1') }

function plotOf(name: string, count = 3_000) {
  return createPlot({ name, count, startMs: 1_700_000_000_000, stepMs: 60_000, language: 'es', cast })
}

const plot = plotOf('one')
const messages = Array.from({ length: plot.count }, (_, index) => generateMessage(plot, index))

test('the same seed gives the same record, another seed another one', () => {
  const record = historyRecord(generateMessage(plot, 17))
  expect(historyRecord(generateMessage(plotOf('one'), 17))).toEqual(record)
  expect(historyRecord(generateMessage(plotOf('two'), 17))).not.toEqual(record)
})

test('ids are distinct UUIDs that lead back to their message and do not sort by age', () => {
  const ids = messages.map(({ id }) => id)
  expect(new Set(ids).size).toBe(ids.length)
  for (const [index, id] of ids.entries()) {
    expect(id).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/)
    expect(indexOfMessage(plot, id)).toBe(index)
  }
  expect(ids.toSorted()).not.toEqual(ids)
  expect(indexOfMessage(plotOf('two'), ids[0] ?? '')).toBeUndefined()
  expect(indexOfMessage(plot, 'nonsense')).toBeUndefined()
})

test('every documented type, media groups and all quirks of the history occur', () => {
  const types = new Set(messages.map(({ type }) => type))
  expect([...types].toSorted()).toEqual([
    'audio',
    'contact',
    'file',
    'location',
    'picture',
    'sticker',
    'text',
    'video',
    'voice',
  ])
  const groups = Map.groupBy(
    messages.filter(({ mediaGroupId }) => mediaGroupId !== null),
    ({ mediaGroupId }) => mediaGroupId,
  )
  expect(groups.size).toBeGreaterThan(10)
  for (const members of groups.values()) {
    expect(members.length).toBeGreaterThan(1)
    expect(new Set(members.map(({ receiver }) => receiver === null)).size).toBe(1)
  }
  for (const quirk of ['leavesOutEmpty', 'fileSizeAsText', 'secondsOnly', 'sparsePeople'] as const)
    expect(messages.filter(({ quirks }) => quirks[quirk]).length).toBeGreaterThan(20)
})

test('what only the webhook tells covers each documented field and stays out of the history', () => {
  const fields = new Set(messages.flatMap((message) => Object.keys(message.webhookOnly().message)))
  expect([...fields].toSorted()).toEqual([
    'forwards',
    'markup',
    'media_duration',
    'post',
    'reply_to',
    'template',
  ])
  const written = JSON.stringify(messages.map(historyRecord))
  for (const field of [...fields, 'external_id']) expect(written).not.toContain(`"${field}"`)
})

test('receivers are missing exactly on what the client wrote', () => {
  for (const message of messages) {
    const record = historyRecord(message)
    expect('receiver' in record).toBe(message.sender.clientId === null)
  }
})

test('a message without milliseconds was sent on a whole second', () => {
  for (const message of messages.filter(({ quirks }) => quirks.secondsOnly)) {
    expect(message.sentAtMs % 1_000).toBe(0)
    expect(historyRecord(message)).not.toHaveProperty('msec_timestamp')
  }
})
