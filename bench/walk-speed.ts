import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { formatKommoDate, md5Hex, signRequest } from '../src/kommo/signature.ts'
import { callForSync } from '../src/store/conversations.ts'
import { createDatabase } from '../src/store/prisma.ts'
import type { Bench } from './harness/bench.ts'
import { processorSeconds, startChild } from './harness/child.ts'
import { PAGE_SIZE } from './harness/pages.ts'
import { serviceEnvironment } from './harness/receivers.ts'
import { figure, figureOf, inTurns, ratioOf, side } from './harness/rounds.ts'
import { type Simulator, startSimulator } from './harness/simulator.ts'
import { until } from './harness/until.ts'

export const walkSpeed: Bench = {
  name: 'walk-speed',
  question: 'how close is a walk through 100,000 messages to fetching the same pages and doing nothing?',
  async run({ server, smoke, rounds: wanted }) {
    const rounds = Math.min(wanted, 3)
    const messages = smoke ? 500 : 100_000
    await using stack = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'kommo-sync-bench-'))
    stack.defer(() => rm(folder, { recursive: true, force: true }))
    const kommo = stack.use(await startSimulator({ conversations: rounds + 1, messages }))
    const databaseUrl = await server.createDatabase()
    const database = createDatabase(databaseUrl, { maxConnections: 2 })
    stack.defer(() => database.close())
    const worker = stack.use(
      await startChild('src/server.ts', {
        env: {
          ...serviceEnvironment(kommo, databaseUrl, folder),
          ROLE: 'worker',
          KOMMO_REQUESTS_PER_SECOND: '10000',
        },
      }),
    )

    const unread = [...kommo.conversations]
    const processor: number[] = []
    const ours = side('kommo-sync', 'messages/s', async () => {
      const id = unread.shift() ?? ''
      const before = await processorSeconds(worker.pid)
      const startedAt = performance.now()
      await callForSync(database.prisma, {
        conversationId: id,
        scopeId: kommo.scopeId,
        full: true,
        patient: false,
      })
      await until(async () => {
        const row = await database.prisma.conversation.findUnique({ where: { id } })
        return row !== null && row.requested === row.processed
      })
      const perSecond = (messages / (performance.now() - startedAt)) * 1000
      processor.push(((await processorSeconds(worker.pid)) - before) / (messages / perSecond))
      return perSecond
    })
    const fetching = side('fetching and parsing with undici', 'messages/s', async () => {
      const startedAt = performance.now()
      await fetchAll(kommo, kommo.conversations[0] ?? '')
      return (messages / (performance.now() - startedAt)) * 1000
    })
    await inTurns([ours, fetching], rounds)

    const stored = await database.prisma.message.count()
    if (stored !== messages * (rounds + 1)) throw new Error(`${stored} messages are stored`)
    return {
      settings: { messages, rounds, KOMMO_REQUESTS_PER_SECOND: 10_000 },
      figures: [
        figureOf(ours),
        figureOf(fetching),
        figure('cores used by the worker', 'cores', processor.slice(1)),
      ],
      answers: [
        { question: 'walk against fetching', asked: { least: 0.6 }, measured: ratioOf(ours, fetching) },
      ],
    }
  },
}

/** The same pages as a walk asks for, one after another. */
async function fetchAll({ url, channelSecret, scopeId }: Simulator, conversationId: string): Promise<void> {
  const pool = new Pool(url, { connections: 1 })
  const path = `/v2/origin/custom/${scopeId}/chats/${conversationId}/history`
  const contentType = 'application/json'
  const contentMd5 = md5Hex('')
  for (let offset = 0, isLast = false; !isLast; offset += PAGE_SIZE - 1) {
    const date = formatKommoDate(new Date())
    const signature = signRequest({ method: 'GET', contentMd5, contentType, date, path }, channelSecret)
    const { statusCode, body } = await pool.request({
      method: 'GET',
      path,
      query: { limit: PAGE_SIZE, offset },
      headers: { date, 'content-type': contentType, 'content-md5': contentMd5, 'x-signature': signature },
    })
    const text = await body.text()
    if (statusCode !== 200) throw new Error(`a page was answered ${statusCode}: ${text.slice(0, 200)}`)
    const page: unknown = JSON.parse(text)
    isLast = countOf(page) < PAGE_SIZE
  }
  await pool.close()
}

function countOf(page: unknown): number {
  return typeof page === 'object' && page !== null && 'messages' in page && Array.isArray(page.messages)
    ? page.messages.length
    : 0
}
