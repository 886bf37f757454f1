import { type Scope, formatScopeId } from '../domain/scope.ts'
import type { InboxWebhook, WebhookKind } from '../domain/webhook.ts'
import { classifyWebhook } from '../kommo/classify-webhook.ts'
import { isUsableId } from '../kommo/storable.ts'
import type { GroupCommit } from './group-commit.ts'

export interface Receipt {
  kind: WebhookKind
  /** The address names another account than the signed body; the body was believed. */
  accountDiffers: boolean
}

/**
 * Takes a verified webhook: resolves when its bytes are durable, and does nothing else first, because Kommo sends it
 * once and waits 5 s. Whatever it holds, it is kept.
 *
 * @param addressed the scope in the address. The account is taken from the signed body where it names one.
 */
export async function receiveWebhook(
  inbox: GroupCommit<InboxWebhook>,
  addressed: Scope,
  body: Uint8Array,
): Promise<Receipt> {
  const { accountId, ...classified } = classifyWebhook(body)
  const scopeId = formatScopeId({
    channelId: addressed.channelId,
    accountId: accountId ?? addressed.accountId,
  })
  const usable = isUsableId(scopeId)
  await inbox.add({
    ...classified,
    scopeId: usable ? scopeId : null,
    error:
      classified.error ??
      (usable ? null : 'neither the address nor the body names an account that can be stored'),
    body,
  })
  return { kind: classified.kind, accountDiffers: accountId !== null && accountId !== addressed.accountId }
}
