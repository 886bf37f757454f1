import { expect, test } from 'vitest'
import { createSlidingWindow } from '../../../src/simulated-kommo/sliding-window.ts'

test('the peak is the highest number of arrivals in any window, wherever it begins', () => {
  const window = createSlidingWindow(1_000)
  for (const at of [0, 900, 950, 1_000, 1_899]) window.add(at)
  expect(window.peak).toBe(4)
})

test('arrivals one whole length apart are in different windows', () => {
  const window = createSlidingWindow(1_000)
  for (const at of [0, 1_000, 2_000]) expect(window.add(at)).toBe(1)
})

test('a long run stays exact', () => {
  const window = createSlidingWindow(1_000)
  for (let at = 0; at < 100_000; at += 10) window.add(at)
  expect(window.peak).toBe(100)
  expect(window.count(99_990)).toBe(100)
  expect(window.count(200_000)).toBe(0)
})
