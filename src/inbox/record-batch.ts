import type { Logger } from 'pino'
import type { InboxWebhook } from '../domain/webhook.ts'
import { isDataError } from '../store/connection/data-error.ts'

/** Makes webhooks durable in the database, all of them or none. */
export type Record = (webhooks: readonly InboxWebhook[]) => Promise<void>

const REFUSED = 'The database refused what was read from this webhook; see the log.'

/**
 * Records a batch; where the database refuses the values, one by one, and the one to blame as its bytes alone: whatever
 * a webhook holds, it holds up no other.
 *
 * @returns those that the database refuses even so, say by a constraint that somebody added
 */
export async function recordBatch(
  record: Record,
  webhooks: readonly InboxWebhook[],
  log: Logger,
): Promise<InboxWebhook[]> {
  try {
    await record(webhooks)
    return []
  } catch (error) {
    if (!isDataError(error)) throw error
    const [webhook] = webhooks
    if (webhook === undefined) throw error
    if (webhooks.length === 1) return recordBytes(record, webhook, log)
    const refused: InboxWebhook[] = []
    for (const each of webhooks) refused.push(...(await recordBatch(record, [each], log)))
    return refused
  }
}

/** Where another session has recorded the webhook at this moment, this finds it and does nothing. */
async function recordBytes(record: Record, webhook: InboxWebhook, log: Logger): Promise<InboxWebhook[]> {
  const { receiptId } = webhook
  try {
    await record([bytesAlone(webhook)])
    log.warn({ receiptId }, 'the database refused what was read from a webhook; its bytes are stored')
    return []
  } catch (error) {
    if (!isDataError(error)) throw error
    log.error(
      { err: error, receiptId },
      'the database refuses a webhook; it is kept in the folder of the spool',
    )
    return [webhook]
  }
}

function bytesAlone({ receiptId, receivedAt, body }: InboxWebhook): InboxWebhook {
  const nothing = {
    scopeId: null,
    conversationId: null,
    conversationClientId: null,
    messageId: null,
    sentAt: null,
  }
  return { ...nothing, receiptId, receivedAt, body, kind: 'invalid', error: REFUSED }
}
