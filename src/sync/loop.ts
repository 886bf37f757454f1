import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { backoffMs } from './backoff.ts'

export interface Loop {
  /** There may be work: look now, or again when the round under way is done. */
  wake(): void
  /** Resolves when the round under way is done; no other begins. */
  stop(): Promise<void>
}

export interface LoopOptions {
  name: string
  log: Logger
  /** Does a round of work and says in how many milliseconds to look again; 0 is at once. */
  round(stopping: AbortSignal): Promise<number>
}

/** A database that is back should not be kept waiting. */
const LONGEST_PAUSE_MS = 5000

/** Runs rounds of work one after another until it is stopped; a round that fails is tried again, later and later. */
export function startLoop({ name, log, round }: LoopOptions): Loop {
  const stopping = new AbortController()
  let woken = false
  let cutSleepShort = new AbortController()
  let failures = 0

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      woken = false
      const waitMs = await attempt()
      // A wake-up during the round may tell of what the round did not see; a failing one waits all the same.
      if (waitMs > 0 && (failures > 0 || !woken)) await pause(waitMs)
    }
  }

  async function attempt(): Promise<number> {
    try {
      const waitMs = await round(stopping.signal)
      failures = 0
      return waitMs
    } catch (error) {
      failures += 1
      const waitMs = Math.min(backoffMs(failures, Math.random()), LONGEST_PAUSE_MS)
      log.error({ err: error, loop: name, failures, retryInMs: Math.round(waitMs) }, 'a round failed')
      return waitMs
    }
  }

  async function pause(waitMs: number): Promise<void> {
    cutSleepShort = new AbortController()
    const signal = AbortSignal.any([stopping.signal, cutSleepShort.signal])
    await sleep(waitMs, undefined, { signal }).catch(() => {})
  }

  const running = run()

  return {
    wake() {
      woken = true
      // A failing round waits its time: waking it by each webhook would hammer a database that is away.
      if (failures === 0) cutSleepShort.abort()
    },
    async stop() {
      stopping.abort()
      await running
    },
  }
}
