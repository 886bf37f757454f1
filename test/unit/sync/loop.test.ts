import { performance } from 'node:perf_hooks'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createLogger } from '../../../src/logger.ts'
import { type Loop, startLoop } from '../../../src/sync/loop.ts'

const log = createLogger('silent')

const LONG_MS = 60_000
/** The first back-off without its jitter is 1000 ms, with it at least this. */
const SHORTEST_BACKOFF_MS = 740

interface Watched {
  loop: Loop
  /** Resolves when round `number`, from 1, begins. */
  began(number: number): Promise<void>
  /** When each round began. */
  times: number[]
}

/** Starts a loop whose rounds can be awaited. */
function watch(round: (number: number, loop: () => Loop) => Promise<number>): Watched {
  const times: number[] = []
  const waiting: { number: number; resolve: () => void }[] = []
  const loop: Loop = startLoop({
    name: 'test',
    log,
    async round() {
      // The first round begins inside `startLoop`; and a loop that never pauses must not starve the test.
      await new Promise(setImmediate)
      times.push(performance.now())
      for (const { number, resolve } of waiting) if (times.length >= number) resolve()
      return round(times.length, () => loop)
    },
  })
  onTestFinished(() => loop.stop())
  return {
    loop,
    times,
    began: (number) =>
      new Promise((resolve) => {
        if (times.length >= number) resolve()
        else waiting.push({ number, resolve })
      }),
  }
}

test('a round that asks for another at once gets it', async () => {
  const { began } = watch(async (number) => (number < 50 ? 0 : LONG_MS))
  await began(50)
})

test('the next round comes after the time that the last one named', async () => {
  const { began, times } = watch(async () => 60)
  await began(2)
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(58)
})

test('wake cuts a wait short', async () => {
  const { loop, began } = watch(async () => LONG_MS)
  await began(1)
  await new Promise(setImmediate)
  loop.wake()
  await began(2)
})

test('wake during a round runs another round at once', async () => {
  const { began } = watch(async (number, loop) => {
    if (number === 1) loop().wake()
    return LONG_MS
  })
  await began(2)
})

test('many wakes during one round run one more round, not many', async () => {
  const { began, loop, times } = watch(async (number, self) => {
    if (number === 1) for (let wakes = 0; wakes < 10; wakes += 1) self().wake()
    return LONG_MS
  })
  await began(2)
  await new Promise(setImmediate)
  await loop.stop()
  expect(times).toHaveLength(2)
})

test('two rounds never overlap', async () => {
  let under = 0
  let most = 0
  const { began } = watch(async (_number, loop) => {
    under += 1
    most = Math.max(most, under)
    loop().wake()
    await new Promise(setImmediate)
    under -= 1
    return 0
  })
  await began(20)
  expect(most).toBe(1)
})

describe('a failing round', () => {
  test('is tried again after a back-off, and wake does not hurry it', async () => {
    const { loop, began, times } = watch(async () => {
      throw new Error('the database is away')
    })
    await began(1)
    await new Promise(setImmediate)
    for (let wakes = 0; wakes < 20; wakes += 1) loop.wake()
    await began(2)
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(SHORTEST_BACKOFF_MS)
  })

  test('backs off although it was woken while it ran', async () => {
    const { began, times } = watch(async (_number, loop) => {
      loop().wake()
      throw new Error('the database is away')
    })
    await began(2)
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(SHORTEST_BACKOFF_MS)
  })

  test('that succeeds again can be woken again', async () => {
    const { loop, began, times } = watch(async (number) => {
      if (number === 1) throw new Error('once')
      return LONG_MS
    })
    await began(2)
    await new Promise(setImmediate)
    loop.wake()
    await began(3)
    expect((times[2] ?? 0) - (times[1] ?? 0)).toBeLessThan(SHORTEST_BACKOFF_MS)
  })
})

test('stop waits for the round under way, and no other begins', async () => {
  const round = Promise.withResolvers<number>()
  const { loop, began, times } = watch(() => round.promise)
  await began(1)
  let stopped = false
  const stopping = loop.stop().then(() => {
    stopped = true
  })
  await new Promise(setImmediate)
  expect(stopped).toBe(false)
  round.resolve(0)
  await stopping
  expect(times).toHaveLength(1)
})

test('stop cuts a wait short', async () => {
  const { loop, began } = watch(async () => LONG_MS)
  await began(1)
  await loop.stop()
})

test('a round learns from its signal that the loop stops', async () => {
  let signal: AbortSignal | undefined
  const loop = startLoop({
    name: 'test',
    log,
    async round(stopping) {
      signal = stopping
      return LONG_MS
    },
  })
  await loop.stop()
  expect(signal?.aborted).toBe(true)
})
