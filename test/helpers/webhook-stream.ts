import { setTimeout as sleep } from 'node:timers/promises'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { createWebhookSender } from './webhook-sender.ts'

export interface Delivery {
  webhook: SignedWebhook
  /** `0`: no answer. */
  status: number
  sentAtMs: number
  answeredAtMs: number
}

export interface WebhookStream extends AsyncDisposable {
  /** Those that were answered so far. */
  deliveries: Delivery[]
  /** Sends no more, waits for the answers. */
  stop(): Promise<Delivery[]>
}

/** Sends webhooks at a rate, each on time, whether or not those before it are answered: as Kommo does. */
export function streamWebhooks(
  serviceUrl: string,
  webhooks: Iterable<SignedWebhook>,
  perSecond: number,
): WebhookStream {
  const deliveries: Delivery[] = []
  const stopping = new AbortController()

  async function run(): Promise<void> {
    await using sender = createWebhookSender(serviceUrl, { connections: 512 })
    const sending: Promise<void>[] = []
    const startedAt = performance.now()
    for (const webhook of webhooks) {
      const dueInMs = startedAt + (sending.length / perSecond) * 1000 - performance.now()
      if (dueInMs > 0) await sleep(dueInMs)
      if (stopping.signal.aborted) break
      sending.push(send(webhook))
    }
    await Promise.all(sending)

    async function send(webhook: SignedWebhook): Promise<void> {
      const sentAtMs = performance.now()
      const { status } = await sender.send(webhook).catch(() => ({ status: 0 }))
      deliveries.push({ webhook, status, sentAtMs, answeredAtMs: performance.now() })
    }
  }

  const running = run()
  async function stop(): Promise<Delivery[]> {
    stopping.abort()
    await running
    return deliveries
  }
  return { deliveries, stop, [Symbol.asyncDispose]: async () => void (await stop()) }
}

/** Milliseconds within which this share of the deliveries was answered. */
export function answerTimeMs(deliveries: readonly Delivery[], share: number): number {
  const times = deliveries
    .map(({ sentAtMs, answeredAtMs }) => answeredAtMs - sentAtMs)
    .toSorted((a, b) => a - b)
  return times[Math.ceil(times.length * share) - 1] ?? 0
}

/**
 * Pairs that lie in the wrong order: the second was sent after the first had been answered. What was on its way at the
 * same time has no order.
 */
export function countOvertaken(deliveries: readonly Delivery[]): number {
  let overtaken = 0
  let latestSentMs = 0
  for (const { sentAtMs, answeredAtMs } of deliveries) {
    if (answeredAtMs < latestSentMs) overtaken += 1
    latestSentMs = Math.max(latestSentMs, sentAtMs)
  }
  return overtaken
}
