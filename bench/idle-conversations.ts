import type { Bench } from './harness/bench.ts'
import { processorSeconds } from './harness/child.ts'
import { figure, figureOf, inTurns, side } from './harness/rounds.ts'
import { openSurroundings } from './harness/service.ts'
import { until } from './harness/until.ts'

/** Conversations that a completed walk has read, with one message each. */
const KNOWN = `
WITH known AS (
  INSERT INTO kommo.conversations (id, scope_id, requested, processed, history_complete, walks_completed, synced_at)
  SELECT 'conversation ' || n, $1, 1, 1, true, 1, now() FROM generate_series(1, $2::int) AS n
  RETURNING id, scope_id
)
INSERT INTO kommo.messages (id, scope_id, conversation_id, direction, observed_at, first_walk)
SELECT 'message of ' || id, scope_id, id, 'outgoing', now(), 1 FROM known`

/** A webhook for each, of the message that the walk has seen: late, or sent twice. */
const CALLED = `
WITH called AS (
  UPDATE kommo.conversations SET requested = requested + 1, run_after = now() RETURNING id, scope_id, requested
), recorded AS (
  INSERT INTO kommo.webhook_events (scope_id, kind, conversation_id, message_id, sync_request, body, processed_at)
  SELECT scope_id, 'message', id, 'message of ' || id, requested, '', now() FROM called
)
SELECT pg_notify('kommo_sync', '')`

export const idleConversations: Bench = {
  name: 'idle-conversations',
  question: 'how many conversations a second are claimed and completed where there is no history to read?',
  async run({ server, smoke, rounds }) {
    const conversations = smoke ? 200 : 20_000
    await using surroundings = await openSurroundings(server)
    const { kommo, client } = surroundings
    await client.query(KNOWN, [kommo.scopeId, conversations])
    await client.query('VACUUM ANALYZE kommo.conversations, kommo.messages')
    const worker = await surroundings.start({ ROLE: 'worker' })

    const processor: number[] = []
    const ours = side('claimed and completed', 'conversations/s', async () => {
      const before = await processorSeconds(worker.pid)
      await client.query(CALLED)
      const startedAt = performance.now()
      await until(async () => {
        const text = 'SELECT FROM kommo.conversations WHERE requested > processed AND dead_at IS NULL LIMIT 1'
        return (await client.query(text)).rowCount === 0
      })
      const seconds = (performance.now() - startedAt) / 1000
      processor.push(((await processorSeconds(worker.pid)) - before) / seconds)
      return conversations / seconds
    })
    await inTurns([ours], rounds)
    const requests = kommo.stats.snapshot().historyRequests
    if (requests > 0) throw new Error(`${requests} history requests were made, and none was needed`)

    return {
      settings: { conversations, rounds },
      figures: [figureOf(ours), figure('cores used by the worker', 'cores', processor.slice(1))],
      answers: [
        { question: 'claimed and completed a second', asked: { least: 2000 }, measured: figureOf(ours) },
      ],
    }
  },
}
