import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MAX_ATTEMPTS, backoffMs } from '../../../src/sync/backoff.ts'

const MIDDLE = 0.5

test.each([
  [1, 1000],
  [2, 2000],
  [3, 4000],
  [10, 512_000],
])('after failed attempt %i the wait is %i ms, give or take the jitter', (attempt, waitMs) => {
  expect(backoffMs(attempt, MIDDLE)).toBe(waitMs)
})

test('the wait never grows beyond an hour and its jitter', () => {
  expect(backoffMs(13, MIDDLE)).toBe(3_600_000)
  expect(backoffMs(5000, 1)).toBe(4_500_000)
})

test('the jitter moves a wait by at most a quarter', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (attempt, random) => {
        const middle = backoffMs(attempt, MIDDLE)
        expect(Math.abs(backoffMs(attempt, random) - middle)).toBeLessThanOrEqual(middle / 4)
      },
    ),
  )
})

test.each([0, 50, 7_200_000])(
  'a wait of %i ms that was asked for is kept, and a second at most added',
  (asked) => {
    expect(backoffMs(12, 0, asked)).toBe(asked)
    expect(backoffMs(12, 1, asked)).toBe(asked + 1000)
  },
)

test('a conversation that keeps failing is given up after nine to eleven hours', () => {
  let totalMs = 0
  for (let attempt = 1; attempt < MAX_ATTEMPTS; attempt += 1) totalMs += backoffMs(attempt, MIDDLE)
  expect(totalMs / 3_600_000).toBeGreaterThan(8)
  expect(totalMs / 3_600_000).toBeLessThan(11)
})
