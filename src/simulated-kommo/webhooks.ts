import { createHmac } from 'node:crypto'
import type { JsonObject } from '../domain/json.ts'
import type { Accounts } from './accounts.ts'
import type { Conversation } from './conversation.ts'
import type { Person, SimulatedMessage } from './message.ts'
import type { Delivery } from './delivery.ts'
import { postOnce } from './post-once.ts'
import { createRecent } from './recent.ts'
import {
  messageBody,
  messageV1Body,
  reactionBody,
  stringifyLikePhp,
  typingBody,
  type WebhookContext,
} from './webhook-bodies.ts'

/** Exact bytes and the signature that Kommo would send with them. */
export interface SignedWebhook {
  scopeId: string
  bytes: Buffer
  /** Lower-case hex HMAC-SHA1 of the bytes under the channel's secret (documented). */
  signature: string
}

export interface BodyOptions {
  /** `php` (default) escapes `/` and non-ASCII; `utf8` sends both as they are. Kommo's way is not documented. */
  escape?: 'php' | 'utf8'
}

export interface SendOptions {
  /** Where `:scope_id` is replaced by the scope's id. */
  to: string
  /** In place of the right one; `null` sends none. */
  signature?: string | null
  headers?: Record<string, string>
}

export interface Webhooks {
  /** Also "write first" and replies to comments: those follow from the conversation and the message. */
  message(conversation: Conversation, message: SimulatedMessage, options?: BodyOptions): SignedWebhook
  messageV1(conversation: Conversation, message: SimulatedMessage, options?: BodyOptions): SignedWebhook
  typing(
    conversation: Conversation,
    options?: BodyOptions & { user?: Person; userAt?: 'typing' | 'action'; postId?: string },
  ): SignedWebhook
  reaction(
    conversation: Conversation,
    message: SimulatedMessage,
    options?: BodyOptions & { user?: Person; shape?: 'message' | 'msgid'; emoji?: string | null },
  ): SignedWebhook
  /** Signs whatever is given, as it is. */
  sign(scopeId: string, body: string | Uint8Array | JsonObject, options?: BodyOptions): SignedWebhook
  /** Once, with 5 s to answer, never again (documented). Never fails: look at the delivery. */
  send(webhook: SignedWebhook, options: SendOptions): Promise<Delivery>
  /** The latest 10,000, oldest first. */
  deliveries(): Delivery[]
}

/** How long the receiver has (documented). */
const answerWithinMs = 5_000

export interface WebhooksOptions {
  accounts: Accounts
  now: () => Date
  signal: AbortSignal
}

export function createWebhooks({ accounts, now, signal }: WebhooksOptions): Webhooks {
  const recent = createRecent<Delivery>(10_000)

  const contextOf = (conversation: Conversation): WebhookContext => ({
    accountId: conversation.accountId,
    conversation,
    now: now(),
  })

  function sign(
    scopeId: string,
    body: string | Uint8Array | JsonObject,
    { escape = 'php' }: BodyOptions = {},
  ): SignedWebhook {
    const bytes = Buffer.from(bytesOf(body, escape))
    const signature = createHmac('sha1', accounts.channelOf(scopeId).secret).update(bytes).digest('hex')
    return { scopeId, bytes, signature }
  }

  return {
    sign,
    message: (conversation, message, options) =>
      sign(conversation.scopeId, messageBody(contextOf(conversation), message), options),
    messageV1: (conversation, message, options) =>
      sign(conversation.scopeId, messageV1Body(contextOf(conversation), message), options),
    typing: (conversation, options = {}) => {
      const body = typingBody(contextOf(conversation), options.user ?? managerOf(conversation), options)
      return sign(conversation.scopeId, body, options)
    },
    reaction: (conversation, message, options = {}) => {
      const user = options.user ?? managerOf(conversation)
      return sign(
        conversation.scopeId,
        reactionBody(contextOf(conversation), message, user, options),
        options,
      )
    },
    async send({ scopeId, bytes, signature: right }, { to, signature = right, headers = {} }) {
      const address = to.replaceAll(':scope_id', scopeId)
      const at = now()
      const result = await postOnce(address, bytes, {
        headers: {
          'Content-Type': 'application/json',
          'User-Agent': 'amoCRM amoJo/1.0',
          ...(signature === null ? {} : { 'X-Signature': signature }),
          ...headers,
        },
        timeoutMs: answerWithinMs,
        signal,
      })
      const delivery: Delivery = { scopeId, address, at, ...result }
      recent.add(delivery)
      return delivery
    },
    deliveries: () => recent.list(),
  }
}

function managerOf({ cast }: Conversation): Person {
  return cast.managers[0] ?? cast.bot
}

function bytesOf(body: string | Uint8Array | JsonObject, escape: 'php' | 'utf8'): string | Uint8Array {
  if (typeof body === 'string' || body instanceof Uint8Array) return body
  return escape === 'php' ? stringifyLikePhp(body) : JSON.stringify(body)
}
