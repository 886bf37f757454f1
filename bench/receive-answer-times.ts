import type { Bench } from './harness/bench.ts'
import { openLoad } from './harness/load.ts'
import { setUpReceivers } from './harness/receivers.ts'
import { figureOf, inTurns, quantile, ratioOf, side } from './harness/rounds.ts'

const CONNECTIONS = 64

export const receiveAnswerTimes: Bench = {
  name: 'receive-answer-times',
  question: 'how long does an answer take at half of the highest throughput?',
  async run(context) {
    const { smoke, rounds, say } = context
    const durationMs = smoke ? 300 : 6000
    await using stack = new AsyncDisposableStack()
    const receivers = stack.use(await setUpReceivers(context))
    const ours = await receivers.startReceiver()
    const load = stack.use(openLoad([ours.url], receivers.requests, CONNECTIONS))
    const peer = await receivers.startPeer('no-database')
    const peerLoad = stack.use(openLoad([peer.url], receivers.requests, CONNECTIONS))

    const highest: number[] = []
    for (let round = 0; round < 3; round += 1) highest.push(await load.throughput(durationMs / 3))
    const rate = Math.round(quantile(highest, 0.5) / 2)
    say(`highest ${Math.round(rate * 2)}/s, sending ${rate}/s`)

    const p50 = new Map<string, number[]>([
      ['kommo-sync', []],
      ['the same app without a database', []],
    ])
    const p99 = (name: string, of: typeof load) =>
      side(`${name}, p99`, 'ms', async () => {
        const times = await of.answerTimes(rate, durationMs)
        p50.get(name)?.push(quantile(times, 0.5))
        return quantile(times, 0.99)
      })
    const sides = [p99('kommo-sync', load), p99('the same app without a database', peerLoad)] as const
    const [group, app] = sides
    await inTurns(sides, rounds)

    return {
      settings: { 'webhooks/s': rate, connections: CONNECTIONS, 'seconds each': durationMs / 1000, rounds },
      figures: [
        ...sides.map(figureOf),
        ...[...p50].map(([name, [, ...samples]]) => figureOf({ ...app, name: `${name}, p50`, samples })),
      ],
      answers: [
        {
          question: 'p99 against the same app without a database',
          asked: { most: 2 },
          measured: ratioOf(group, app),
        },
      ],
    }
  },
}
