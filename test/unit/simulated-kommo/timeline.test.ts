import { array, assert, constantFrom, integer, nat, property, record } from 'fast-check'
import { expect, test } from 'vitest'
import {
  createPlot,
  countSentUpTo,
  generateMessage,
  sentAt,
} from '../../../src/simulated-kommo/generate-message.ts'
import { createClient, createStaff } from '../../../src/simulated-kommo/people.ts'
import { createTimeline } from '../../../src/simulated-kommo/timeline.ts'

function plotOf(count: number) {
  const cast = { ...createStaff('scope'), ...createClient('test', 'client-1') }
  return createPlot({ name: 'test', count, startMs: 1_700_000_000_000, stepMs: 3_000, language: 'pt', cast })
}

test('times rise strictly and can be counted without a list', () => {
  const plot = plotOf(2_000)
  for (let index = 1; index < plot.count; index++) {
    const at = sentAt(plot, index)
    expect(at).toBeGreaterThan(sentAt(plot, index - 1))
    expect(countSentUpTo(plot, at)).toBe(index + 1)
    expect(countSentUpTo(plot, at - 1)).toBe(index)
  }
})

test('any additions, edits and removals leave what a plain sorted list would hold', () => {
  const change = record({
    kind: constantFrom('insert', 'edit', 'remove'),
    place: nat(1_000),
    offsetMs: integer({ min: -10_000, max: 200_000 }),
  })
  assert(
    property(nat(40), array(change, { maxLength: 60 }), (count, changes) => {
      const plot = plotOf(count)
      const timeline = createTimeline(plot)
      const found: boolean[] = []
      const list = Array.from({ length: count }, (_, index) => generateMessage(plot, index))
      for (const [number, { kind, place, offsetMs }] of changes.entries()) {
        const picked = list[place % Math.max(1, list.length)]
        if (kind === 'insert') {
          const message = {
            ...generateMessage(plotOf(1), 0),
            id: `added-${number}`,
            sentAtMs: plot.startMs + offsetMs,
          }
          timeline.insert(message)
          const later = list.findIndex(({ sentAtMs }) => sentAtMs > message.sentAtMs)
          list.splice(later === -1 ? list.length : later, 0, message)
        } else if (picked !== undefined && kind === 'edit') {
          found.push(timeline.edit(picked.id, { text: `edit ${number}` }))
          picked.text = `edit ${number}`
        } else if (picked !== undefined) {
          found.push(timeline.remove(picked.id))
          list.splice(list.indexOf(picked), 1)
          found.push(timeline.byId(picked.id) === undefined)
        }
      }
      expect(found).not.toContain(false)
      const seen = Array.from({ length: timeline.size }, (_, rank) => timeline.at(rank))
      expect(seen.map((message) => [message?.id, message?.text])).toEqual(
        list.map(({ id, text }) => [id, text]),
      )
      for (const { id } of list) expect(timeline.byId(id)?.id).toBe(id)
      expect(timeline.at(timeline.size)).toBeUndefined()
    }),
  )
})
