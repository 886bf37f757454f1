import type { Answer, Bench } from './harness/bench.ts'
import { openLoad } from './harness/load.ts'
import { setUpReceivers } from './harness/receivers.ts'
import { type Figure, figureOf, inTurns, ratioOf, side } from './harness/rounds.ts'

/** Connections, and how many times the throughput of one statement for each webhook is asked for. */
const ASKED = [
  [1, 1],
  [10, 1.2],
] as const

export const receiveFewConnections: Bench = {
  name: 'receive-few-connections',
  question: 'does committing in groups pay where few webhooks come at once?',
  async run(context) {
    const { smoke, rounds } = context
    const durationMs = smoke ? 200 : 4000
    await using receivers = await setUpReceivers(context)
    const ours = await receivers.startReceiver()
    const each = await receivers.startPeer('one-statement-each')
    const inline = await receivers.startPeer('inline')

    const figures: Figure[] = []
    const answers: Answer[] = []
    for (const [connections, least] of ASKED) {
      await using stack = new AsyncDisposableStack()
      const compared = async (name: string, url: string) => {
        const load = stack.use(openLoad([url], receivers.requests, connections))
        return side(`${name}, ${connections}`, 'webhooks/s', () => load.throughput(durationMs))
      }
      const group = await compared('kommo-sync', ours.url)
      const alone = await compared('the same statement for each webhook', each.url)
      const sides = [group, alone, await compared("stripe-sync-engine's way, inline", inline.url)]
      await inTurns(sides, rounds)
      figures.push(...sides.map(figureOf))
      const question = `against one statement for each webhook, ${connections} connections`
      answers.push({ question, asked: { least }, measured: ratioOf(group, alone) })
    }
    return {
      settings: { 'seconds each': durationMs / 1000, rounds, 'connections of peers to Postgres': 10 },
      figures,
      answers,
    }
  },
}
