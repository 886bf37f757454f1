import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Walk } from '../../../src/domain/conversation.ts'
import { type Page, walkStep } from '../../../src/sync/walk-step.ts'

const PAGE_SIZE = 5

function walkAt(offset: number, tail: readonly string[], full = false): Walk {
  return { number: 1, requested: 1n, full, offset, tail }
}

function page(keys: string, known: Partial<Page> = {}): Page {
  return { keys: [...keys], full: keys.length >= PAGE_SIZE, reachesKnown: false, ...known }
}

describe('one step', () => {
  test('from a full page leads to the next one, which repeats a record', () => {
    expect(walkStep(walkAt(0, []), page('abcde'), PAGE_SIZE, 0)).toEqual({
      kind: 'next',
      offset: 4,
      tail: [...'abcde'],
    })
  })

  test('from a page that is not full is the last', () => {
    expect(walkStep(walkAt(4, [...'abcde']), page('efg'), PAGE_SIZE, 0)).toEqual({
      kind: 'finished',
      reachedEnd: true,
    })
  })

  test('from an empty head is the last', () => {
    expect(walkStep(walkAt(0, []), page(''), PAGE_SIZE, 0)).toEqual({ kind: 'finished', reachedEnd: true })
  })

  test('from a page that reaches what is known is the last', () => {
    const reached = page('abcde', { reachesKnown: true })
    expect(walkStep(walkAt(0, []), reached, PAGE_SIZE, 0)).toEqual({ kind: 'finished', reachedEnd: false })
  })

  test('of a full walk goes on behind what is known', () => {
    const reached = page('abcde', { reachesKnown: true })
    expect(walkStep(walkAt(0, [], true), reached, PAGE_SIZE, 0)).toMatchObject({ kind: 'next', offset: 4 })
  })

  test('goes back by a page when the page repeats nothing', () => {
    expect(walkStep(walkAt(12, [...'abcde']), page('ghijk'), PAGE_SIZE, 0)).toEqual({
      kind: 'stepBack',
      offset: 8,
      tail: [...'abcde'],
    })
  })

  test('does not end on a page that repeats nothing, be it short, empty or known', () => {
    for (const keys of ['gh', '', 'ghijk']) {
      const step = walkStep(walkAt(12, [...'abcde']), page(keys, { reachesKnown: true }), PAGE_SIZE, 0)
      expect(step.kind).toBe('stepBack')
    }
  })

  test('never goes back beyond the head', () => {
    expect(walkStep(walkAt(3, [...'abcde']), page('ghijk'), PAGE_SIZE, 0)).toMatchObject({ offset: 0 })
  })

  test('begins at the head again after three steps back', () => {
    expect(walkStep(walkAt(100, [...'abcde']), page('ghijk'), PAGE_SIZE, 3)).toMatchObject({
      kind: 'stepBack',
      offset: 0,
    })
  })

  test('goes on after a step back that finds what must repeat', () => {
    expect(walkStep(walkAt(8, [...'abcde']), page('defgh'), PAGE_SIZE, 1)).toEqual({
      kind: 'next',
      offset: 12,
      tail: [...'defgh'],
    })
  })
})

/** What happens to the list before a page is read. */
interface Change {
  gained: number
  /** Places in the list, as fractions of its length. */
  lost: readonly number[]
}

const change = (mostGained: number, mostLost: number): fc.Arbitrary<Change> =>
  fc.record({
    gained: fc.nat({ max: mostGained }),
    lost: fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { maxLength: mostLost }),
  })

const story = fc.record({
  pageSize: fc.integer({ min: 2, max: 7 }),
  length: fc.nat({ max: 60 }),
  changes: fc.array(fc.oneof(change(3, 2), change(0, 12), change(14, 0), change(14, 40)), { maxLength: 30 }),
})

/** A newest-first list that changes between pages, and a walk over it. */
function walkThrough({ pageSize, length, changes }: { pageSize: number; length: number; changes: Change[] }) {
  let made = 0
  const make = () => `m${(made += 1)}`
  let list = Array.from({ length }, make)
  const survivors = new Set(list)
  const read = new Set<string>()
  let walk = walkAt(0, [])
  let stepsBack = 0
  let pages = 0

  for (;;) {
    const { gained, lost } = changes[pages] ?? { gained: 0, lost: [] }
    list = [...Array.from({ length: gained }, make), ...list]
    for (const place of lost) {
      const [gone] = list.splice(Math.floor(place * list.length), 1)
      if (gone !== undefined) survivors.delete(gone)
    }
    const keys = list.slice(walk.offset, walk.offset + pageSize)
    for (const key of keys) read.add(key)
    pages += 1
    const step = walkStep(
      walk,
      { keys, full: keys.length === pageSize, reachesKnown: false },
      pageSize,
      stepsBack,
    )
    if (step.kind === 'finished') return { survivors, read, pages, list }
    stepsBack = step.kind === 'stepBack' ? stepsBack + 1 : 0
    walk = { ...walk, offset: step.offset, tail: step.tail }
    const mostAfterChanges = 10 + Math.ceil(list.length / (pageSize - 1))
    if (pages > changes.length + mostAfterChanges) throw new Error('the walk does not end')
  }
}

describe('a walk to the end', () => {
  test('reads every message that exists all the while, and ends when the changes do', () => {
    fc.assert(
      fc.property(story, (told) => {
        const { survivors, read } = walkThrough(told)
        expect([...survivors].filter((id) => !read.has(id))).toEqual([])
      }),
      { numRuns: 2000 },
    )
  })

  test.each([0, 1, 4, 5, 6, 9, 10, 50])('through %i unchanged messages asks for each page once', (length) => {
    const { read, pages } = walkThrough({ pageSize: PAGE_SIZE, length, changes: [] })
    expect(read.size).toBe(length)
    expect(pages).toBeLessThanOrEqual(Math.ceil(Math.max(0, length - 1) / (PAGE_SIZE - 1)) + 1)
  })
})
