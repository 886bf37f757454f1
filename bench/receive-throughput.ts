import type { Bench } from './harness/bench.ts'
import { openLoad } from './harness/load.ts'
import { setUpReceivers } from './harness/receivers.ts'
import { figureOf, inTurns, ratioOf, side } from './harness/rounds.ts'

const CONNECTIONS = 64

export const receiveThroughput: Bench = {
  name: 'receive-throughput',
  question: 'how many webhooks a second are answered, durable, over 64 connections?',
  async run(context) {
    const { smoke, rounds } = context
    const durationMs = smoke ? 200 : 4000
    await using stack = new AsyncDisposableStack()
    const receivers = stack.use(await setUpReceivers(context))
    const loadOn = async (child: Promise<{ url: string }>) =>
      stack.use(openLoad([(await child).url], receivers.requests, CONNECTIONS))
    const compared = async (name: string, child: Promise<{ url: string }>) => {
      const load = await loadOn(child)
      return side(name, 'webhooks/s', () => load.throughput(durationMs))
    }

    const ours = await compared('kommo-sync', receivers.startReceiver())
    const app = await compared('the same app without a database', receivers.startPeer('no-database'))
    const bare = await compared('only Fastify, raw body, signature', receivers.startPeer('bare'))
    const each = await compared(
      'the same statement for each webhook',
      receivers.startPeer('one-statement-each'),
    )
    const inline = await compared("stripe-sync-engine's way, inline", receivers.startPeer('inline'))
    const sides = [ours, app, bare, each, inline]
    await inTurns(sides, rounds)

    return {
      settings: {
        connections: CONNECTIONS,
        'seconds each': durationMs / 1000,
        rounds,
        'connections of peers to Postgres': 10,
      },
      figures: sides.map(figureOf),
      answers: [
        {
          question: 'against the same app without a database',
          asked: { least: 0.85 },
          measured: ratioOf(ours, app),
        },
      ],
    }
  },
}
