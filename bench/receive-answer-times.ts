import { Client } from 'pg'
import type { Bench } from './harness/bench.ts'
import { openLoad } from './harness/load.ts'
import { setUpReceivers } from './harness/receivers.ts'
import { figureOf, inTurns, quantile, ratioOf, side } from './harness/rounds.ts'
import type { BenchServer } from './harness/server.ts'

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
    const group = p99('kommo-sync', load)
    const app = p99('the same app without a database', peerLoad)
    const commits = stack.use(await openCommits(context.server))
    const commit = side('bare commits of one row, one after another, p99', 'ms', async () =>
      quantile(await commits.times(durationMs), 0.99),
    )
    const sides = [group, app, commit]
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
      notes: [
        'An answer waits for one commit, or for the rest of one and the next: the disk decides how long.',
      ],
    }
  },
}

/** What the disk alone makes somebody wait who wants to know that a row is safe. */
async function openCommits(
  server: BenchServer,
): Promise<AsyncDisposable & { times(durationMs: number): Promise<number[]> }> {
  const client = new Client({ connectionString: await server.createDatabase() })
  await client.connect()
  await client.query(
    'CREATE TABLE public.bare_commits (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())',
  )
  return {
    async times(durationMs) {
      const times: number[] = []
      const end = performance.now() + durationMs
      for (let startedAt = performance.now(); startedAt < end; startedAt = performance.now()) {
        await client.query({ name: 'bare', text: 'INSERT INTO public.bare_commits DEFAULT VALUES' })
        times.push(performance.now() - startedAt)
      }
      return times
    },
    [Symbol.asyncDispose]: () => client.end(),
  }
}
