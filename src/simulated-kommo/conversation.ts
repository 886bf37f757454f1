import type { JsonObject } from '../domain/json.ts'
import { uuidOf } from './draw.ts'
import type { Plot } from './generate-message.ts'
import { emptyContent, noQuirks, type Content, type Quirks, type SimulatedMessage } from './message.ts'
import type { Cast } from './people.ts'
import { createTimeline } from './timeline.ts'
import { messageTruth, peopleTruth, type MessageTruth, type PersonTruth } from './truth.ts'
import type { Delivery } from './delivery.ts'

/** A message to be; what is not said is empty, the author is the client, the time is now. */
export interface NewMessage extends Partial<Content> {
  from?: 'client' | 'manager' | 'bot'
  id?: string
  clientId?: string | null
  sentAtMs?: number
  quirks?: Partial<Quirks>
  /** Fields that only the webhook tells, inside the message (`template`, `reply_to`, …) and beside it. */
  webhookOnly?: JsonObject
  source?: JsonObject
}

export interface Conversation {
  readonly id: string
  readonly scopeId: string
  readonly accountId: string
  /** `null` after "write first", until the integration ties its own id to the chat. */
  clientId: string | null
  readonly cast: Cast
  /** How many messages exist. */
  readonly size: number
  /** Newest first, as the history counts. */
  page(offset: number, limit: number): SimulatedMessage[]
  message(id: string): SimulatedMessage | undefined
  /** All that exist, newest first. */
  messages(): Generator<SimulatedMessage>
  /** At the head: later than every other, unless it brings its own time. */
  addMessage(message?: NewMessage): SimulatedMessage
  /** With an old date: it turns up in the middle or at the end of the history. */
  importMessage(message: NewMessage & { sentAtMs: number }): SimulatedMessage
  editMessage(id: string, change: Partial<Content>): void
  removeMessage(id: string): void
  /** What tables should hold of every existing message, newest first. */
  truth(): Generator<MessageTruth>
  participants(): PersonTruth[]
  /** As in Kommo: the message is in the history and one webhook goes out; `null` if no address is registered. */
  managerWrites(message: string | NewMessage): Promise<Delivery | null>
  /** As in Kommo: the message is in the history, and no webhook tells of it. */
  clientWrites(message: string | NewMessage): SimulatedMessage
}

export interface ConversationOptions {
  id: string
  scopeId: string
  accountId: string
  clientId: string | null
  plot: Plot
  now: () => Date
  /** Sends the webhook of a message that a manager wrote. */
  announce: (conversation: Conversation, message: SimulatedMessage) => Promise<Delivery | null>
}

export function createConversation(options: ConversationOptions): Conversation {
  const { id, scopeId, accountId, plot, now, announce } = options
  const { cast } = plot
  const timeline = createTimeline(plot)
  let addedCount = 0

  function add({
    from = 'client',
    id: messageId,
    clientId,
    sentAtMs,
    ...rest
  }: NewMessage): SimulatedMessage {
    const { quirks, webhookOnly = {}, source = null, ...content } = rest
    const isIncoming = from === 'client'
    const number = addedCount++
    const staff = from === 'bot' ? cast.bot : (cast.managers[0] ?? cast.bot)
    const newest = timeline.at(timeline.size - 1)?.sentAtMs ?? 0
    const message: SimulatedMessage = {
      id: messageId ?? uuidOf(`${plot.name}/added/${number}`),
      clientId: clientId ?? (isIncoming ? `msg-added-${number}` : null),
      sentAtMs: sentAtMs ?? Math.max(now().getTime(), newest + 1),
      sender: isIncoming ? cast.client : staff,
      receiver: isIncoming ? null : cast.client,
      ...emptyContent,
      ...content,
      quirks: { ...noQuirks, ...quirks },
      webhookOnly: () => ({ message: webhookOnly, source }),
    }
    if (timeline.byId(message.id) !== undefined) throw new Error(`message ${message.id} exists already`)
    timeline.insert(message)
    return message
  }

  function* fromOldToNew(): Generator<SimulatedMessage> {
    for (let rank = 0; rank < timeline.size; rank++) {
      const message = timeline.at(rank)
      if (message !== undefined) yield message
    }
  }

  const conversation: Conversation = {
    id,
    scopeId,
    accountId,
    clientId: options.clientId,
    cast,
    get size() {
      return timeline.size
    },
    page(offset, limit) {
      const page: SimulatedMessage[] = []
      const newest = timeline.size - 1 - offset
      for (let rank = newest; rank > newest - limit && rank >= 0; rank--) {
        const message = timeline.at(rank)
        if (message !== undefined) page.push(message)
      }
      return page
    },
    message: (messageId) => timeline.byId(messageId),
    *messages() {
      for (let rank = timeline.size - 1; rank >= 0; rank--) {
        const message = timeline.at(rank)
        if (message !== undefined) yield message
      }
    },
    addMessage: (message = {}) => add(message),
    importMessage: (message) => add(message),
    editMessage(messageId, change) {
      if (!timeline.edit(messageId, change)) throw new Error(`no message ${messageId} to edit`)
    },
    removeMessage(messageId) {
      if (!timeline.remove(messageId)) throw new Error(`no message ${messageId} to remove`)
    },
    *truth() {
      for (const message of conversation.messages()) yield messageTruth(scopeId, id, message)
    },
    participants: () => peopleTruth(scopeId, fromOldToNew()),
    managerWrites: (message) => announce(conversation, add({ from: 'manager', ...newMessage(message) })),
    clientWrites: (message) => add({ ...newMessage(message), from: 'client' }),
  }
  return conversation
}

function newMessage(message: string | NewMessage): NewMessage {
  return typeof message === 'string' ? { text: message } : message
}
