import { type Scope, formatScopeId } from '../domain/scope.ts'
import type { InboxWebhook, WebhookKind } from '../domain/webhook.ts'
import { AppError } from '../errors.ts'
import { classifyWebhook } from '../kommo/classify-webhook.ts'
import { isUsableId } from '../kommo/storable.ts'
import type { Inbox } from './inbox.ts'
import { newReceiptId } from './receipt-id.ts'

export interface Receipt {
  kind: WebhookKind
  /** The address names another account than the signed body; the body was believed. */
  accountDiffers: boolean
}

/** The one case in which a webhook is lost, because Kommo sends it once. */
export class WebhookNotKeptError extends AppError {
  constructor(cause: unknown) {
    super('A webhook could not be kept: Kommo does not send it again. Check database and disk', {
      code: 'webhook_not_kept',
      retryable: true,
      cause,
    })
  }
}

const NO_ACCOUNT = 'Neither the address nor the body names an account that can be stored.'

/**
 * Takes a verified webhook: resolves when its bytes are durable, and does nothing else first, because Kommo sends it
 * once and waits 5 s. Whatever it holds, it is kept.
 *
 * @param addressed the scope in the address. The account is taken from the signed body where it names one.
 * @throws WebhookNotKeptError
 */
export async function receiveWebhook(
  inbox: Pick<Inbox, 'add'>,
  { channelId, accountId: addressedAccount }: Scope,
  body: Uint8Array,
): Promise<Receipt> {
  const { accountId, ...classified } = classifyWebhook(body)
  const scopeId = formatScopeId({ channelId, accountId: accountId ?? addressedAccount })
  const received = { receiptId: newReceiptId(Date.now()), receivedAt: null, body }
  const webhook: InboxWebhook = isUsableId(scopeId)
    ? { ...classified, ...received, scopeId }
    : { ...classified, ...received, scopeId: null, error: classified.error ?? NO_ACCOUNT }
  try {
    await inbox.add(webhook)
  } catch (error) {
    throw new WebhookNotKeptError(error)
  }
  return { kind: webhook.kind, accountDiffers: accountId !== null && accountId !== addressedAccount }
}
