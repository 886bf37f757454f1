import { expect, test } from 'vitest'
import { createDatabaseClock } from '../../../src/sync/database-clock.ts'

/** The database is this far ahead, and looks at its clock at the end of the way there. */
function answer(askedAt: number, thereMs: number, backMs: number, aheadMs = 5000) {
  return { askedAt, answeredAt: askedAt + thereMs + backMs, databaseTime: askedAt + thereMs + aheadMs }
}

test('a moment of the database is found by our clock', () => {
  const clock = createDatabaseClock()
  clock.observe(answer(100, 1, 1))
  expect(clock.toLocal(5200)).toBe(200)
})

test('an answer that waited for a connection or a lock does not blur what a quicker one told', () => {
  const clock = createDatabaseClock()
  clock.observe(answer(100, 1, 1))
  clock.observe(answer(200, 300, 1))
  expect(clock.toLocal(5200)).toBe(200)
})

test('a quicker answer corrects a slow first one', () => {
  const clock = createDatabaseClock()
  clock.observe(answer(100, 300, 2))
  clock.observe(answer(500, 1, 1))
  expect(clock.toLocal(5200)).toBe(200)
})

test('a clock that was set is believed at once', () => {
  const clock = createDatabaseClock()
  clock.observe(answer(100, 1, 1))
  clock.observe(answer(200, 5, 5, 9000))
  expect(clock.toLocal(9300)).toBe(300)
})

test('an old measurement gives way to a slower one: clocks drift', () => {
  const clock = createDatabaseClock()
  clock.observe(answer(0, 1, 1, 5000))
  clock.observe(answer(70_000, 2, 2, 5001))
  expect(clock.toLocal(75_001)).toBe(70_000)
})
