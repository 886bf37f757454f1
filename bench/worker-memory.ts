import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from './harness/bench.ts'
import { residentBytes } from './harness/child.ts'
import { figure } from './harness/rounds.ts'
import { startWalker } from './harness/service.ts'

const FIRST = 1000
const MIB = 1024 * 1024

export const workerMemory: Bench = {
  name: 'worker-memory',
  question: 'how much does a worker grow through a conversation of a million messages?',
  async run({ server, smoke, say }) {
    const messages = smoke ? 3000 : 1_000_000
    await using walker = await startWalker(server, { conversations: 1, messages })
    const { kommo, worker } = walker
    const [id = ''] = kommo.conversations
    const startedAt = performance.now()
    await walker.call(id)
    let baseline = 0
    const samples: { stored: number; bytes: number }[] = []
    let told = 0
    for (let stored = 0; stored < messages;) {
      stored = await storedMessages(worker.url)
      const bytes = await residentBytes(worker.pid)
      if (baseline === 0 && stored >= FIRST) baseline = bytes
      if (baseline > 0) samples.push({ stored, bytes })
      if (stored - told >= 100_000) {
        told = stored
        say(`${stored} messages, ${Math.round(bytes / MIB)} MiB`)
      }
      await sleep(stored < FIRST ? 5 : 200)
    }
    const seconds = (performance.now() - startedAt) / 1000
    const grown = samples.map(({ bytes }) => (bytes - baseline) / 1_000_000)

    return {
      settings: { messages, KOMMO_REQUESTS_PER_SECOND: 10_000 },
      figures: [
        figure(`resident after the first ${FIRST}`, 'MB', [baseline / 1_000_000]),
        figure('growth since, all samples', 'MB', grown),
        figure('growth at the end', 'MB', grown.slice(-1)),
        figure('messages/s', 'messages/s', [messages / seconds]),
      ],
      answers: [
        {
          question: 'highest growth, MB',
          asked: { most: 64 },
          measured: figure('', 'MB', [Math.max(...grown)]),
        },
      ],
    }
  },
}

async function storedMessages(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const lines = text.matchAll(/^kommo_sync_messages_total\{source="history",outcome="inserted"\} (\d+)/gm)
  return [...lines].reduce((sum, [, count]) => sum + Number(count), 0)
}
