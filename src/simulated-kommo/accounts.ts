/** A registered channel; its secret is a key as text. */
export interface Channel {
  id: string
  secret: string
}

export interface Account {
  channelId: string
  accountId: string
  scopeId: string
}

/** Which channels exist, and which accounts each is connected to. */
export interface Accounts {
  channel(channelId: string): Channel | undefined
  connect(channelId: string, accountId: string): Account
  disconnect(channelId: string, accountId: string): void
  connected(scopeId: string): Account | undefined
  /** The channel of a scope, connected or not; an error for an unknown one. */
  channelOf(scopeId: string): Channel
}

export function createAccounts(channels: readonly Channel[]): Accounts {
  const channelById = new Map(channels.map((channel) => [channel.id, channel]))
  const connected = new Map<string, Account>()
  return {
    channel: (channelId) => channelById.get(channelId),
    connect(channelId, accountId) {
      const scopeId = `${channelId}_${accountId}`
      const account = connected.get(scopeId) ?? { channelId, accountId, scopeId }
      connected.set(scopeId, account)
      return account
    },
    disconnect(channelId, accountId) {
      connected.delete(`${channelId}_${accountId}`)
    },
    connected: (scopeId) => connected.get(scopeId),
    channelOf(scopeId) {
      const channel = channelById.get(scopeId.split('_')[0] ?? '')
      if (channel === undefined) throw new Error(`no channel for scope ${scopeId}`)
      return channel
    },
  }
}
