import { setTimeout as sleep } from 'node:timers/promises'
import type { Conversation } from '../src/simulated-kommo/conversation.ts'
import type { SignedWebhook } from '../src/simulated-kommo/webhooks.ts'
import type { Answer, Bench } from './harness/bench.ts'
import { openLoad, webhookRequest } from './harness/load.ts'
import { PAGE_SIZE } from './harness/pages.ts'
import { type Figure, figure } from './harness/rounds.ts'
import { openSurroundings } from './harness/service.ts'
import { until } from './harness/until.ts'

const WEBHOOKS = 100
const BURST_MS = 1000
/** Around the edges of pages. */
const SIZES = [1, 49, 50, 51, 99, 100, 1000, 4901]

export const historyRequests: Bench = {
  name: 'history-requests',
  question: 'how many history requests do a burst of webhooks and a first walk cost?',
  async run({ server, smoke, rounds }) {
    await using surroundings = await openSurroundings(server)
    const { kommo, client } = surroundings
    const service = await surroundings.start({ KOMMO_REQUESTS_PER_SECOND: '100' })
    const untilSynced = ({ id }: Conversation) =>
      until(async () => {
        const text =
          'SELECT FROM kommo.conversations WHERE id = $1 AND requested = processed AND history_complete'
        return (await client.query(text, [id])).rowCount === 1
      })

    async function send(webhook: SignedWebhook): Promise<void> {
      await using load = openLoad([service.url], [webhookRequest(webhook)], 1)
      await load.post()
    }

    /** Of a conversation that is read already, with so many messages among the webhooks; the rest are reactions. */
    async function requestsOfBurst(messages: number, again = 5): Promise<number> {
      const conversation = kommo.conversations.generate({ messages: 200 })
      await send(kommo.webhooks.message(conversation, conversation.addMessage({ from: 'manager' })))
      await untilSynced(conversation)
      await sleep(1500)
      const before = kommo.stats.historyRequestsOf(conversation.id)
      const startedAt = performance.now()
      const sending: Promise<void>[] = []
      for (let number = 0; number < WEBHOOKS; number += 1) {
        await sleep(Math.max(1, startedAt + (number * BURST_MS * 0.9) / WEBHOOKS - performance.now()))
        const isMessage =
          Math.floor((number * messages) / WEBHOOKS) < Math.floor(((number + 1) * messages) / WEBHOOKS)
        const message = isMessage ? conversation.addMessage({ from: 'manager' }) : conversation.page(0, 1)[0]
        if (message === undefined) throw new Error('unreachable: the conversation has messages')
        sending.push(
          send(
            isMessage
              ? kommo.webhooks.message(conversation, message)
              : kommo.webhooks.reaction(conversation, message),
          ),
        )
      }
      await Promise.all(sending)
      const tookMs = performance.now() - startedAt
      // On a machine with too much to do it was not within a second, and so another question.
      if (tookMs > BURST_MS && again > 0) return requestsOfBurst(messages, again - 1)
      await untilSynced(conversation)
      return kommo.stats.historyRequestsOf(conversation.id) - before
    }

    async function requestsOfFirstWalk(size: number): Promise<number> {
      const conversation = kommo.conversations.generate({ messages: size })
      const [newest] = conversation.page(0, 1)
      if (newest === undefined) throw new Error('unreachable: the conversation has messages')
      await send(kommo.webhooks.reaction(conversation, newest))
      await untilSynced(conversation)
      return kommo.stats.historyRequestsOf(conversation.id)
    }

    const times = (measure: () => Promise<number>) => inARow(smoke ? 1 : rounds, measure)
    const burst = async (messages: number) => {
      const name = `${WEBHOOKS} webhooks in a second, ${messages} new messages`
      return figure(name, 'requests', await times(() => requestsOfBurst(messages)))
    }
    const onePage = await burst(40)
    const figures: Figure[] = [onePage, ...(smoke ? [] : [await burst(100)])]
    const answers: Answer[] = [
      {
        question: '100 webhooks within a second (least: 2, one while they come and one after)',
        asked: { most: 2 },
        measured: worst(onePage),
      },
    ]
    for (const size of smoke ? SIZES.slice(0, 4) : SIZES) {
      const measured = figure(`first walk of ${size}`, 'requests', [await requestsOfFirstWalk(size)])
      figures.push(measured)
      const asked = { most: Math.ceil((size - 1) / (PAGE_SIZE - 1)) + 1 }
      answers.push({ question: `first walk of ${size}`, asked, measured })
    }
    return {
      settings: { KOMMO_REQUESTS_PER_SECOND: 100, rounds },
      figures,
      answers,
      notes: ['100 new messages lie on 3 pages: a walk that sees them all at once needs 3 requests.'],
    }
  },
}

async function inARow(count: number, measure: () => Promise<number>): Promise<number[]> {
  const samples: number[] = []
  for (let number = 0; number < count; number += 1) samples.push(await measure())
  return samples
}

/** Every burst must keep the bound. */
function worst({ name, unit, most }: Figure): Figure {
  return figure(name, unit, [most])
}
