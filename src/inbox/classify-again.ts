import { formatScopeId, parseScopeId } from '../domain/scope.ts'
import type { InboxWebhook } from '../domain/webhook.ts'
import { classifyWebhook } from '../kommo/classify-webhook.ts'
import { isUsableId } from '../kommo/storable.ts'

type StoredWebhook = Pick<InboxWebhook, 'scopeId' | 'body' | 'receiptId' | 'receivedAt'>

const NO_ACCOUNT = 'The body names no account, and none was kept with it.'

/**
 * What a stored webhook is by the rules of today: a newer version may understand what an older one could not.
 *
 * @param stored its scope names the channel that signed it
 * @param onlyChannelId the channel that it must have come from where none was kept
 */
export function classifyAgain(stored: StoredWebhook, onlyChannelId: string | null): InboxWebhook {
  const { accountId, ...classified } = classifyWebhook(stored.body)
  const channelId = stored.scopeId === null ? onlyChannelId : parseScopeId(stored.scopeId).channelId
  const scopeId =
    channelId === null || accountId === null ? stored.scopeId : formatScopeId({ channelId, accountId })
  return isUsableId(scopeId)
    ? { ...stored, ...classified, scopeId }
    : { ...stored, ...classified, scopeId: null, error: classified.error ?? NO_ACCOUNT }
}
