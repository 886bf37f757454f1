import { expect, test } from 'vitest'
import { createRateLimit } from '../../../src/http/rate-limit.ts'

const takeMany = (count: number, take: () => boolean) =>
  Array.from({ length: count }, take).filter(Boolean).length

test('a burst is granted at once, and then as much as flows in', () => {
  const limit = createRateLimit({ perSecond: 2, burst: 5 })
  expect(takeMany(10, () => limit.take('a', 1000))).toBe(5)
  expect(takeMany(10, () => limit.take('a', 2000))).toBe(2)
  expect(takeMany(10, () => limit.take('a', 60_000))).toBe(5)
})

test('each key has its own, and a clock that steps back takes nothing away', () => {
  const limit = createRateLimit({ perSecond: 1, burst: 1 })
  expect(limit.take('a', 1000)).toBe(true)
  expect(limit.take('b', 1000)).toBe(true)
  expect(limit.take('a', 500)).toBe(false)
  expect(limit.take('a', 1500)).toBe(true)
})

test('the key that was silent longest is forgotten first', () => {
  const limit = createRateLimit({ perSecond: 0, burst: 1, maxKeys: 2 })
  for (const key of ['a', 'b', 'a', 'c']) limit.take(key, 0)
  expect(limit.take('a', 0)).toBe(false)
  expect(limit.take('b', 0)).toBe(true)
})
