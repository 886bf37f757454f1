import type { Logger } from 'pino'
import type { MappedRecord } from '../domain/message.ts'
import { parseWebhook } from '../kommo/classify-webhook.ts'
import { mapWebhookMessage } from '../kommo/map-message.ts'
import { type Metrics, countStored } from '../metrics.ts'
import { isDataError } from '../store/data-error.ts'
import type { Database } from '../store/prisma.ts'
import type { Queryable } from '../store/queryable.ts'
import { type StoredRecords, storeRecords } from '../store/records.ts'
import {
  type PendingWebhookEvent,
  lockPendingWebhookEvents,
  settleWebhookEvents,
} from '../store/webhook-events.ts'

export interface ApplyDependencies {
  database: Database
  metrics: Metrics
  log: Logger
}

/** Enough to keep up with the receiver, small enough that a batch is done within some 50 ms. */
const BATCH_SIZE = 200

/**
 * Makes the messages of waiting webhooks visible, before and whether or not their conversations can be read: a
 * channel that Kommo has blocked still shows what its webhooks told.
 *
 * @returns whether there may be more
 */
export async function applyWebhooks(dependencies: ApplyDependencies): Promise<boolean> {
  try {
    return await applyBatch(dependencies)
  } catch (error) {
    if (!isDataError(error)) throw error
    // One of them is to blame: alone, it fails alone, and the others become visible.
    dependencies.log.warn({ err: error }, 'a batch of webhooks could not be stored; trying them one by one')
    return applyOneByOne(dependencies)
  }
}

async function applyBatch({ database, metrics }: ApplyDependencies): Promise<boolean> {
  return database.rawTransaction(async (tx) => {
    const events = await lockPendingWebhookEvents(tx, BATCH_SIZE)
    if (events.length > 0) countStored(metrics, 'webhook', await apply(tx, events))
    return events.length === BATCH_SIZE
  })
}

async function applyOneByOne({ database, metrics, log }: ApplyDependencies): Promise<boolean> {
  for (let done = 0; done < BATCH_SIZE; done += 1) {
    let failing: PendingWebhookEvent | undefined
    try {
      const more = await database.rawTransaction(async (tx) => {
        const events = await lockPendingWebhookEvents(tx, 1)
        failing = events[0]
        if (events.length > 0) countStored(metrics, 'webhook', await apply(tx, events))
        return events.length > 0
      })
      if (!more) return false
    } catch (error) {
      if (failing === undefined || !isDataError(error)) throw error
      log.error({ err: error, eventId: failing.id }, 'a webhook could not be stored; it stays in the inbox')
      await settleWebhookEvents(database.prisma, [
        { id: failing.id, error: 'its message could not be stored; see the log, then replay it' },
      ])
    }
  }
  return true
}

async function apply(db: Queryable, events: readonly PendingWebhookEvent[]): Promise<StoredRecords> {
  const mapped = events.map((event) => ({ id: event.id, record: mapEvent(event) }))
  // The second need not wait for the first: if that fails, the transaction does.
  const [stored] = await Promise.all([
    storeRecords(
      db,
      mapped.map(({ record }) => record),
      null,
    ),
    settleWebhookEvents(
      db,
      mapped.map(({ id, record }) => ({ id, error: record.kind === 'mapped' ? null : record.reason })),
    ),
  ])
  return stored
}

function mapEvent({ body, scopeId, conversationId, receivedAt }: PendingWebhookEvent): MappedRecord {
  return mapWebhookMessage(parseWebhook(body), { scopeId, conversationId, receivedAt })
}
