import type { Bench } from './harness/bench.ts'
import { type Child, processorSeconds } from './harness/child.ts'
import { openLoad } from './harness/load.ts'
import { machineSeconds } from './harness/machine.ts'
import { setUpReceivers } from './harness/receivers.ts'
import { type Side, figure, figureOf, inTurns, ratioOf, side } from './harness/rounds.ts'

const CONNECTIONS = 256

export const receiveProcesses: Bench = {
  name: 'receive-processes',
  question: 'what do 2 and 4 receivers on one database take, against one?',
  async run(context) {
    const { smoke, rounds } = context
    const durationMs = smoke ? 200 : 4000
    await using stack = new AsyncDisposableStack()
    const receivers = stack.use(await setUpReceivers(context))
    const databaseUrl = await context.server.createDatabase()
    const children: Child[] = []
    for (let count = 0; count < (smoke ? 2 : 4); count += 1)
      children.push(await receivers.startReceiver(databaseUrl))

    const cores = new Map<string, number[]>()
    const note = (name: string, used: number) => cores.set(name, [...(cores.get(name) ?? []), used])
    const withProcesses = async (count: number): Promise<Side> => {
      const used = children.slice(0, count)
      const urls = used.map(({ url }) => url)
      const load = stack.use(openLoad(urls, receivers.requests, CONNECTIONS))
      const name = `${count} ${count === 1 ? 'process' : 'processes'}`
      const seconds = async () =>
        (await Promise.all(used.map(({ pid }) => processorSeconds(pid)))).reduce((sum, one) => sum + one, 0)
      return side(name, 'webhooks/s', async () => {
        const before = { theirs: await seconds(), all: machineSeconds() }
        const perSecond = await load.throughput(durationMs)
        note(`${name}: cores used by them`, ((await seconds()) - before.theirs) / (durationMs / 1000))
        note(`${name}: cores used by all`, (machineSeconds() - before.all) / (durationMs / 1000))
        return perSecond
      })
    }
    const one = await withProcesses(1)
    const sides = [one, await withProcesses(2), ...(smoke ? [] : [await withProcesses(4)])]
    await inTurns(sides, rounds)

    return {
      settings: { connections: CONNECTIONS, 'seconds each': durationMs / 1000, rounds },
      figures: [
        ...sides.map(figureOf),
        ...[...cores].map(([name, [, ...samples]]) => figure(name, 'cores', samples)),
      ],
      answers: sides.slice(1).map((more) => ({
        question: `${more.name} against one`,
        asked: { least: 1 },
        measured: ratioOf(more, one),
      })),
      notes: [
        'Load client, receivers and Postgres share the cores: what grows beyond them is another machine.',
      ],
    }
  },
}
