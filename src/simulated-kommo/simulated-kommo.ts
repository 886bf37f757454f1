import { once } from 'node:events'
import { createServer } from 'node:http'
import { createAccounts, type Account, type Channel } from './accounts.ts'
import type { Conversation } from './conversation.ts'
import { createConversations, type Conversations } from './conversations.ts'
import { uuidOf } from './draw.ts'
import { createFaults, type Faults } from './faults.ts'
import { createRequestHandler } from './handle-request.ts'
import type { SimulatedMessage } from './message.ts'
import { createOtherMethods } from './other-methods.ts'
import { createStats, type Stats } from './stats.ts'
import type { Delivery } from './delivery.ts'
import { createWebhooks, type Webhooks } from './webhooks.ts'

export interface SimulatedKommoOptions {
  /** 0, the default, takes a free one. */
  port?: number
  host?: string
  /** One invented channel, unless given. Each is connected to the default account. */
  channels?: readonly Channel[]
  now?: () => Date
}

/**
 * A server that answers as Kommo's Chats API is documented to, for the demo, tests and benches. It shares no code with
 * our client: it checks signatures and writes records by itself, so that both cannot be wrong in the same way.
 */
export interface SimulatedKommo {
  /** `http://HOST:PORT`, for `KOMMO_BASE_URL`. */
  url: string
  /** Of the first channel and the default account. */
  scopeId: string
  accountId: string
  channelId: string
  channelSecret: string
  /** Connects an account: the default one or any other, of the first channel or any other. */
  account(wanted?: { channelId?: string; accountId?: string }): Account
  conversations: Conversations
  faults: Faults
  stats: Stats
  webhooks: Webhooks
  /** Where `managerWrites` sends its webhook; `:scope_id` is filled in. For one channel, or for all that have none. */
  registerWebhookAddress(address: string, channelId?: string): void
  /** Cuts what is under way. */
  close(): Promise<void>
}

const defaultChannel: Channel = {
  id: 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354',
  secret: '6f1c0a9d2be84735c1d0e9f8a7b6c5d4e3f20118',
}

const defaultAccountId = uuidOf('default account')

export async function startSimulatedKommo(options: SimulatedKommoOptions = {}): Promise<SimulatedKommo> {
  const { port = 0, host = '127.0.0.1', channels = [defaultChannel], now = () => new Date() } = options
  const [firstChannel] = channels
  if (firstChannel === undefined) throw new Error('at least one channel is needed')

  const closing = new AbortController()
  const { signal } = closing
  const accounts = createAccounts(channels)
  for (const { id } of channels) accounts.connect(id, defaultAccountId)
  const { scopeId } = accounts.connect(firstChannel.id, defaultAccountId)

  const webhooks = createWebhooks({ accounts, now, signal })
  const addressByChannel = new Map<string | undefined, string>()
  async function announce(conversation: Conversation, message: SimulatedMessage): Promise<Delivery | null> {
    // Webhooks stop with the connection (documented).
    const account = accounts.connected(conversation.scopeId)
    if (account === undefined) return null
    const address = addressByChannel.get(account.channelId) ?? addressByChannel.get(undefined)
    return address === undefined
      ? null
      : await webhooks.send(webhooks.message(conversation, message), { to: address })
  }

  const conversations = createConversations({ defaultScopeId: scopeId, accounts, now, announce })
  const faults = createFaults()
  const stats = createStats()
  const otherMethods = createOtherMethods(accounts, conversations)
  const handleRequest = createRequestHandler({
    accounts,
    conversations,
    otherMethods,
    faults,
    stats,
    now,
    signal,
  })

  const server = createServer((request, response) => {
    void handleRequest(request, response)
  })
  server.listen(port, host)
  await once(server, 'listening')

  return {
    url: urlOf(server.address(), host),
    scopeId,
    accountId: defaultAccountId,
    channelId: firstChannel.id,
    channelSecret: firstChannel.secret,
    account: ({ channelId = firstChannel.id, accountId = defaultAccountId } = {}) => {
      if (accounts.channel(channelId) === undefined) throw new Error(`no channel ${channelId}`)
      return accounts.connect(channelId, accountId)
    },
    conversations,
    faults,
    stats,
    webhooks,
    registerWebhookAddress(address, channelId) {
      addressByChannel.set(channelId, address)
    },
    async close() {
      if (signal.aborted) return
      closing.abort()
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function urlOf(address: ReturnType<ReturnType<typeof createServer>['address']>, host: string): string {
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return `http://${host}:${address.port}`
}
