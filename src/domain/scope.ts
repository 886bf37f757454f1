/**
 * A scope is one channel connected to one account: `{channel_id}_{account_id}` (documented).
 * The channel part picks the secret; the address that carries it is not signed, the body's `account_id` is.
 */
export interface Scope {
  channelId: string
  accountId: string
}

/** The channel id comes in lower case, as the configuration has it: it is a UUID. */
export function parseScopeId(scopeId: string): Scope {
  const underscore = scopeId.indexOf('_')
  if (underscore === -1) return { channelId: scopeId.toLowerCase(), accountId: '' }
  return {
    channelId: scopeId.slice(0, underscore).toLowerCase(),
    accountId: scopeId.slice(underscore + 1),
  }
}

export function formatScopeId({ channelId, accountId }: Scope): string {
  return `${channelId}_${accountId}`
}
