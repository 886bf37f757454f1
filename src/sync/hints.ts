import type { Logger } from 'pino'
import type { Hint } from '../domain/hint.ts'
import { callForHints } from '../store/hints.ts'
import type { Database } from '../store/connection/database.ts'
import { startLoop } from './loop.ts'

export interface Hints {
  /** Never waits and never fails: what is lost here, reconcile finds. */
  add(hint: Hint): void
  /** Writes down what was added. */
  stop(): Promise<void>
}

const BATCH = 500

/** Conversations that wait while the database is away; a hint for one more is dropped. */
const MOST_WAITING = 10_000

/** Whoever adds wakes the loop. */
const IDLE_MS = 60_000

/** Gathers hints in memory and calls for their conversations, many in one statement: a flood of them costs little. */
export function startHints({ database, log }: { database: Database; log: Logger }): Hints {
  const waiting = new Map<string, Hint>()
  let dropped = 0

  async function flush(): Promise<void> {
    const batch = [...waiting.values()].slice(0, BATCH)
    if (batch.length === 0) return
    // Before the statement runs: what is hinted meanwhile is a call of its own.
    for (const { conversationId } of batch) waiting.delete(conversationId)
    try {
      const called = await callForHints(database.prisma, batch)
      log.debug({ hints: batch.length, called }, 'hints taken')
      if (dropped > 0)
        log.warn({ dropped }, 'hints were dropped: too many waited; reconcile makes up for them')
      dropped = 0
    } catch (error) {
      for (const hint of batch) keep(hint)
      throw error
    }
  }

  function keep(hint: Hint): void {
    if (waiting.has(hint.conversationId)) return
    if (waiting.size < MOST_WAITING) waiting.set(hint.conversationId, hint)
    else dropped += 1
  }

  const loop = startLoop({
    name: 'hints',
    log,
    async round() {
      await flush()
      return waiting.size > 0 ? 0 : IDLE_MS
    },
  })

  return {
    add(hint) {
      keep(hint)
      loop.wake()
    },
    async stop() {
      await loop.stop()
      while (waiting.size > 0) {
        try {
          await flush()
        } catch (error) {
          log.warn(
            { err: error, waiting: waiting.size },
            'hints were dropped at the stop; reconcile makes up for them',
          )
          return
        }
      }
    },
  }
}
