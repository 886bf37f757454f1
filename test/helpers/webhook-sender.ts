import { Pool } from 'undici'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'

export interface Answer {
  status: number
  contentType: string
  body: string
}

export interface WebhookSender extends AsyncDisposable {
  /** POSTs the bytes to the address of the webhook's scope. */
  send(webhook: SignedWebhook, change?: SendChange): Promise<Answer>
}

export interface SendChange {
  /** In place of the scope's own, exactly as it is to stand in the address. */
  scopeInAddress?: string
  /** In place of the right one; `null` sends none. */
  signature?: string | null
  headers?: Record<string, string>
}

/** Sends webhooks over a bounded number of lasting connections: faster than Kommo, which tests need. */
export function createWebhookSender(
  serviceUrl: string,
  { connections = 32 }: { connections?: number } = {},
): WebhookSender {
  const pool = new Pool(serviceUrl, { connections })
  return {
    async send({ scopeId, bytes, signature: right }, change = {}) {
      const { scopeInAddress = scopeId, signature = right, headers = {} } = change
      const response = await pool.request({
        method: 'POST',
        path: `/webhooks/kommo/${scopeInAddress}`,
        headers: {
          'content-type': 'application/json',
          ...(signature === null ? {} : { 'x-signature': signature }),
          ...headers,
        },
        body: bytes,
      })
      return {
        status: response.statusCode,
        contentType: String(response.headers['content-type'] ?? ''),
        body: await response.body.text(),
      }
    },
    [Symbol.asyncDispose]: () => pool.close(),
  }
}

/** Runs a task for each item, at most `atOnce` at a time. */
export async function forEachAtOnce<T>(
  items: Iterable<T>,
  atOnce: number,
  task: (item: T) => Promise<void>,
): Promise<void> {
  const left = items[Symbol.iterator]()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let next = left.next(); next.done !== true; next = left.next()) await task(next.value)
    }),
  )
}
