import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from 'pg'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'

export interface HoleWatcher extends AsyncDisposable {
  /** Looks no more; tells what it saw. */
  stop(): Promise<{ looks: number; sawComplete: number; sawOpen: number; holes: string[] }>
}

interface Look {
  id: string
  complete: boolean
  newestAt: Date | null
  stored: number
}

/**
 * Looks again and again, as another session, whether a conversation calls itself complete and is not: every message that
 * Kommo has, up to the newest one that a history page has shown, must then be stored. Right only while messages are added
 * at the head and none is removed.
 */
export function watchForHoles(
  pool: Pool,
  conversations: ReadonlyMap<string, Conversation>,
  everyMs = 25,
): HoleWatcher {
  const holes: string[] = []
  let looks = 0
  let sawComplete = 0
  let sawOpen = 0
  const stopping = new AbortController()

  async function look(): Promise<void> {
    // One statement sees one moment.
    const { rows } = await pool.query<Look>(`
      SELECT c.id, c.history_complete AS complete, n.at AS "newestAt",
        (SELECT count(*)::int FROM kommo.messages m WHERE m.conversation_id = c.id AND m.sent_at <= n.at) AS stored
      FROM kommo.conversations c,
        LATERAL (SELECT max(sent_at) AS at FROM kommo.messages m
          WHERE m.conversation_id = c.id AND m.first_walk IS NOT NULL) AS n`)
    looks += 1
    for (const { id, complete, newestAt, stored } of rows) {
      const conversation = conversations.get(id)
      if (conversation === undefined) continue
      if (!complete) {
        sawOpen += 1
        continue
      }
      sawComplete += 1
      const wanted = newestAt === null ? 0 : countUpTo(conversation, newestAt.getTime())
      if (stored !== wanted) holes.push(`${id} calls itself complete with ${stored} of ${wanted} messages`)
    }
  }

  const running = (async () => {
    while (!stopping.signal.aborted) {
      // While the database is away there is nothing to see.
      await look().catch(() => {})
      await sleep(everyMs)
    }
  })()

  async function stop() {
    stopping.abort()
    await running
    return { looks, sawComplete, sawOpen, holes }
  }
  return { stop, [Symbol.asyncDispose]: async () => void (await stop()) }
}

function countUpTo(conversation: Conversation, atMs: number): number {
  let newer = 0
  for (const { sentAtMs } of conversation.messages()) {
    if (sentAtMs <= atMs) break
    newer += 1
  }
  return conversation.size - newer
}
