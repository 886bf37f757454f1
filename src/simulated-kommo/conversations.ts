import type { Accounts } from './accounts.ts'
import { createConversation, type Conversation, type ConversationOptions } from './conversation.ts'
import { drawBelow, uuidOf, wordsOf } from './draw.ts'
import { createPlot } from './generate-message.ts'
import type { Person, SimulatedMessage } from './message.ts'
import { createClient, createStaff, type Cast } from './people.ts'
import { languages, type Language } from './phrases.ts'

export interface NewConversation {
  /** The default account's, unless named; it must be connected. */
  scopeId?: string
  id?: string
  /** `null` for a chat begun in Kommo ("write first"). */
  clientId?: string | null
  /** In place of an invented one. */
  client?: Person
  /** The same seed in the same scope gives the same conversation; counted up, unless given. */
  seed?: number | string
}

export interface GeneratedConversation extends NewConversation {
  messages: number
  language?: Language
  /** When the newest message was sent at the latest. */
  until?: Date
  /** Mean time from one message to the next. */
  stepMs?: number
}

export interface Conversations {
  generate(options: GeneratedConversation): Conversation
  /** Without messages. */
  create(options?: NewConversation): Conversation
  get(id: string): Conversation | undefined
  byClientId(scopeId: string, clientId: string): Conversation | undefined
  /** In the order in which they were made. */
  all(): Conversation[]
  /** The message with this id, in whichever conversation of the scope. */
  findMessage(scopeId: string, messageId: string): FoundMessage | undefined
  /** Gives a chat begun in Kommo the integration's own ids, as its first message from the client does. */
  tie(conversation: Conversation, clientId: string, userId: string | null): void
}

export interface FoundMessage {
  conversation: Conversation
  message: SimulatedMessage
}

export interface ConversationsOptions {
  defaultScopeId: string
  accounts: Accounts
  now: () => Date
  announce: ConversationOptions['announce']
}

const defaultUntil = new Date('2026-06-01T12:00:00Z')

export function createConversations(options: ConversationsOptions): Conversations {
  const { defaultScopeId, accounts, now, announce } = options
  const byId = new Map<string, Conversation>()
  const byClient = new Map<string, Conversation>()
  const staffByScope = new Map<string, Pick<Cast, 'managers' | 'bot'>>()
  let made = 0

  function staffOf(scopeId: string): Pick<Cast, 'managers' | 'bot'> {
    const staff = staffByScope.get(scopeId) ?? createStaff(scopeId)
    staffByScope.set(scopeId, staff)
    return staff
  }

  function generate(wanted: GeneratedConversation): Conversation {
    const { messages, seed = `number ${made}`, scopeId = defaultScopeId, until = defaultUntil } = wanted
    made++
    const account = accounts.connected(scopeId)
    if (account === undefined) throw new Error(`scope ${scopeId} is not connected`)
    const name = `${scopeId}/${seed}`
    const [word] = wordsOf(name)
    const id = wanted.id ?? uuidOf(`${name}/conversation`)
    if (byId.has(id)) throw new Error(`conversation ${id} exists already: give another seed`)

    const { clientId = `conv-${id.slice(0, 8)}` } = wanted
    const client =
      wanted.client === undefined
        ? createClient(name, clientId === null ? null : `client-${id.slice(0, 8)}`)
        : { client: wanted.client, clientBefore: wanted.client }
    // A minute to three, so that a million messages fit into a few years.
    const stepMs = wanted.stepMs ?? 60_000 + drawBelow(120_000, word, 0, 0)
    const plot = createPlot({
      name,
      count: messages,
      startMs: until.getTime() - messages * stepMs,
      stepMs,
      language: wanted.language ?? languages[word % languages.length] ?? 'en',
      cast: { ...staffOf(scopeId), ...client },
    })
    const { accountId } = account
    const conversation = createConversation({ id, scopeId, accountId, clientId, plot, now, announce })
    byId.set(id, conversation)
    if (clientId !== null) byClient.set(`${scopeId}/${clientId}`, conversation)
    return conversation
  }

  return {
    generate,
    create: (wanted = {}) => generate({ ...wanted, messages: 0 }),
    get: (id) => byId.get(id),
    byClientId: (scopeId, clientId) => byClient.get(`${scopeId}/${clientId}`),
    all: () => [...byId.values()],
    findMessage(scopeId, messageId) {
      for (const conversation of byId.values()) {
        const message = conversation.scopeId === scopeId ? conversation.message(messageId) : undefined
        if (message !== undefined) return { conversation, message }
      }
      return undefined
    },
    tie(conversation, clientId, userId) {
      conversation.clientId = clientId
      conversation.cast.client.clientId = userId
      conversation.cast.clientBefore.clientId = userId
      byClient.set(`${conversation.scopeId}/${clientId}`, conversation)
    },
  }
}
