import type { Client } from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from './harness/bench.ts'
import { openLoad, webhookRequest } from './harness/load.ts'
import { figure, figureOf, inTurns, quantile, ratioOf, side } from './harness/rounds.ts'
import { openSurroundings } from './harness/service.ts'

export const visible: Bench = {
  name: 'visible',
  question: 'how long after its webhook is sent is a message a row that queries see?',
  async run({ server, smoke, rounds }) {
    const webhooks = smoke ? 10 : 200
    await using surroundings = await openSurroundings(server)
    const { kommo, client } = surroundings
    const service = await surroundings.start()
    await client.query(
      'CREATE TABLE public.bare_commits (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())',
    )

    const conversation = kommo.conversations.generate({ messages: 20 })
    const answers: number[] = []
    const ours = side('webhook sent to row seen, p50', 'ms', async () => {
      const seen: number[] = []
      const messages = Array.from({ length: webhooks }, (_, number) =>
        conversation.addMessage({ from: 'manager', text: `Message ${number}` }),
      )
      const requests = messages.map((message) =>
        webhookRequest(kommo.webhooks.message(conversation, message)),
      )
      await using load = openLoad([service.url], requests, 1)
      for (const { id } of messages) {
        const startedAt = performance.now()
        await load.post()
        answers.push(performance.now() - startedAt)
        await untilStored(client, id)
        seen.push(performance.now() - startedAt)
        await sleep(5)
      }
      return quantile(seen, 0.5)
    })
    const bare = side('bare commit of one row, p50', 'ms', async () => {
      const times: number[] = []
      for (let number = 0; number < webhooks; number += 1) {
        const startedAt = performance.now()
        await client.query({ name: 'bare', text: 'INSERT INTO public.bare_commits DEFAULT VALUES' })
        times.push(performance.now() - startedAt)
        await sleep(5)
      }
      return quantile(times, 0.5)
    })
    await inTurns([ours, bare], rounds)

    return {
      settings: { 'webhooks a round': webhooks, rounds, ROLE: 'all' },
      figures: [figureOf(ours), figureOf(bare), figure('webhook answered', 'ms', [quantile(answers, 0.5)])],
      answers: [
        { question: 'visible against a bare commit, p50', asked: { most: 5 }, measured: ratioOf(ours, bare) },
      ],
    }
  },
}

async function untilStored(client: Client, messageId: string): Promise<void> {
  const text = 'SELECT FROM kommo.messages WHERE id = $1'
  const deadline = performance.now() + 10_000
  while (performance.now() < deadline) {
    const { rowCount } = await client.query({ name: 'stored', text, values: [messageId] })
    if (rowCount === 1) return
  }
  throw new Error(`message ${messageId} was not stored within 10 s`)
}
