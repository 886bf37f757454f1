import type { Logger } from 'pino'
import type { MappedRecord } from '../domain/message.ts'
import type { Reaction } from '../domain/reaction.ts'
import { parseWebhook } from '../kommo/classify-webhook.ts'
import { mapWebhookMessage } from '../kommo/map-message.ts'
import { mapWebhookReaction } from '../kommo/map-reaction.ts'
import { type Metrics, countStored, observeLag } from '../metrics.ts'
import { type AppliedWebhooks, storeWebhooks } from '../store/applied-webhooks.ts'
import { isDataError } from '../store/connection/data-error.ts'
import type { Database } from '../store/connection/database.ts'
import type { ToldReaction } from '../store/reactions.ts'
import type { StoredRecords } from '../store/records.ts'
import {
  type PendingWebhookEvent,
  type WebhookOutcome,
  readPendingWebhookEvents,
} from '../store/webhook-events.ts'

export interface ApplyDependencies {
  database: Database
  metrics: Metrics
  log: Logger
}

/** Enough to keep up with the receiver, small enough that a batch is done within some 50 ms. */
const BATCH_SIZE = 200

/**
 * Makes the messages and reactions of waiting webhooks visible, before and whether or not their conversations can be read: a
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
  const events = await readPendingWebhookEvents(database.prisma, BATCH_SIZE)
  // Where another worker was faster, it goes on.
  return (await apply(database, metrics, events)) && events.length === BATCH_SIZE
}

async function applyOneByOne({ database, metrics, log }: ApplyDependencies): Promise<boolean> {
  for (let done = 0; done < BATCH_SIZE; done += 1) {
    const events = await readPendingWebhookEvents(database.prisma, 1)
    const [event] = events
    if (event === undefined) return false
    try {
      if (!(await apply(database, metrics, events))) return false
    } catch (error) {
      if (!isDataError(error)) throw error
      log.error({ err: error, eventId: event.id }, 'a webhook could not be stored; it stays in the inbox')
      const reason = 'what it brings could not be stored; see the log, then replay it'
      await storeWebhooks(database.prisma, {
        messages: [],
        reactions: [],
        outcomes: [{ id: event.id, error: reason }],
      })
    }
  }
  return true
}

/** @returns whether it was this worker that applied them */
async function apply(
  database: Database,
  metrics: Metrics,
  events: readonly PendingWebhookEvent[],
): Promise<boolean> {
  if (events.length === 0) return false
  const told = mapWebhooks(events)
  const stored = await storeWebhooks(database.prisma, told)
  if (stored === null) return false
  count(metrics, stored, told.reactions)
  return true
}

function mapWebhooks(events: readonly PendingWebhookEvent[]): AppliedWebhooks {
  const messages: MappedRecord[] = []
  const reactions: ToldReaction[] = []
  const outcomes: WebhookOutcome[] = []
  for (const { id, kind, body, ...context } of events) {
    const payload = parseWebhook(body)
    if (kind === 'reaction') {
      const mapped = mapWebhookReaction(payload, context)
      if (mapped.kind === 'mapped') reactions.push({ ...mapped.reaction, webhookId: id })
      outcomes.push({ id, error: mapped.kind === 'mapped' ? null : mapped.reason })
    } else {
      const record = mapWebhookMessage(payload, context)
      messages.push(record)
      outcomes.push({ id, error: record.kind === 'mapped' ? null : record.reason })
    }
  }
  return { messages, reactions, outcomes }
}

function count(metrics: Metrics, stored: StoredRecords, reactions: readonly Reaction[]): void {
  countStored(metrics, 'webhook', stored)
  observeLag(metrics, 'webhook', stored)
  for (const { emoji } of reactions) metrics.reactions.inc({ change: emoji === null ? 'unreact' : 'react' })
}
