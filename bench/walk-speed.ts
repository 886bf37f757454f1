import { Client } from 'pg'
import { Pool } from 'undici'
import { formatKommoDate, md5Hex, signRequest } from '../src/kommo/signature.ts'
import { startSimulatedKommo } from '../src/simulated-kommo/simulated-kommo.ts'
import { callForSync } from '../src/store/conversations.ts'
import { createRawQueryable } from '../src/store/connection/raw-queryable.ts'
import { storeRecords } from '../src/store/records.ts'
import { createStatementNames } from '../src/store/connection/statement-names.ts'
import type { Bench } from './harness/bench.ts'
import { processorSeconds } from './harness/child.ts'
import { PAGE_SIZE, mappedPage } from './harness/pages.ts'
import { figure, figureOf, inTurns, ratioOf, side } from './harness/rounds.ts'
import { startWalker } from './harness/service.ts'
import type { BenchServer } from './harness/server.ts'
import type { Simulator } from './harness/simulator.ts'
import { until } from './harness/until.ts'

export const walkSpeed: Bench = {
  name: 'walk-speed',
  question: 'how close is a walk through 100,000 messages to fetching the same pages and doing nothing?',
  async run({ server, smoke, rounds: wanted }) {
    const rounds = Math.min(wanted, 3)
    const messages = smoke ? 500 : 100_000
    await using stack = new AsyncDisposableStack()
    await using walker = await startWalker(server, { conversations: rounds + 1, messages })
    const { kommo, database, worker } = walker

    const unread = [...kommo.conversations]
    const processor: number[] = []
    const ours = side('kommo-sync', 'messages/s', async () => {
      const id = unread.shift() ?? ''
      const before = await processorSeconds(worker.pid)
      const startedAt = performance.now()
      await walker.call(id)
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
    const storing = await openStoring(server, messages)
    stack.use(storing)
    const onlyStoring = side('storing mapped pages with the raw driver', 'messages/s', storing.measure)
    await inTurns([ours, fetching, onlyStoring], rounds)

    const stored = await database.prisma.message.count()
    if (stored !== messages * (rounds + 1)) throw new Error(`${stored} messages are stored`)
    return {
      settings: { messages, rounds, KOMMO_REQUESTS_PER_SECOND: 10_000 },
      figures: [
        figureOf(ours),
        figureOf(fetching),
        figureOf(onlyStoring),
        figure('cores used by the worker', 'cores', processor.slice(1)),
      ],
      answers: [
        { question: 'walk against fetching', asked: { least: 0.6 }, measured: ratioOf(ours, fetching) },
      ],
      notes: ['What only stores pages that are in memory is the most that one Postgres connection allows.'],
    }
  },
}

/** Pages of a first walk, in memory, one statement each over one connection. */
async function openStoring(
  server: BenchServer,
  messages: number,
): Promise<AsyncDisposable & { measure(): Promise<number> }> {
  await using stack = new AsyncDisposableStack()
  const kommo = await startSimulatedKommo()
  stack.defer(() => kommo.close())
  const client = new Client({ connectionString: await server.createDatabase() })
  await client.connect()
  stack.defer(() => client.end())
  const db = createRawQueryable(
    client,
    createStatementNames(() => true),
  )
  const opened = stack.move()
  let round = 0
  return {
    async measure() {
      const conversation = kommo.conversations.generate({ messages, seed: `stored ${round++}` })
      const { id: conversationId, scopeId } = conversation
      await callForSync(db, { conversationId, scopeId, full: true, patient: false })
      let storedMs = 0
      for (let offset = 0; offset < messages; offset += PAGE_SIZE - 1) {
        const records = mappedPage(conversation, offset, new Date())
        const startedAt = performance.now()
        await storeRecords(db, records, 1)
        storedMs += performance.now() - startedAt
      }
      return (messages / storedMs) * 1000
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
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
