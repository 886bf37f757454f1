import type { Logger } from 'pino'
import type { MappedRecord } from '../domain/message.ts'
import type { Reaction } from '../domain/reaction.ts'
import { parseWebhook } from '../kommo/classify-webhook.ts'
import { mapWebhookMessage } from '../kommo/map-message.ts'
import { mapWebhookReaction } from '../kommo/map-reaction.ts'
import { type Metrics, countStored, observeLag } from '../metrics.ts'
import { isDataError } from '../store/data-error.ts'
import type { Database } from '../store/prisma.ts'
import type { Queryable } from '../store/queryable.ts'
import { type ToldReaction, storeReactions } from '../store/reactions.ts'
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
  return database.prisma.$transaction(async (tx) => {
    const events = await lockPendingWebhookEvents(tx, BATCH_SIZE)
    if (events.length > 0) count(metrics, await apply(tx, events))
    return events.length === BATCH_SIZE
  })
}

async function applyOneByOne({ database, metrics, log }: ApplyDependencies): Promise<boolean> {
  for (let done = 0; done < BATCH_SIZE; done += 1) {
    let failing: PendingWebhookEvent | undefined
    try {
      const more = await database.prisma.$transaction(async (tx) => {
        const events = await lockPendingWebhookEvents(tx, 1)
        failing = events[0]
        if (events.length > 0) count(metrics, await apply(tx, events))
        return events.length > 0
      })
      if (!more) return false
    } catch (error) {
      if (failing === undefined || !isDataError(error)) throw error
      log.error({ err: error, eventId: failing.id }, 'a webhook could not be stored; it stays in the inbox')
      await settleWebhookEvents(database.prisma, [
        { id: failing.id, error: 'what it brings could not be stored; see the log, then replay it' },
      ])
    }
  }
  return true
}

interface Applied {
  stored: StoredRecords
  reactions: readonly Reaction[]
}

async function apply(db: Queryable, events: readonly PendingWebhookEvent[]): Promise<Applied> {
  const messages: MappedRecord[] = []
  const reactions: ToldReaction[] = []
  const outcomes: { id: bigint; error: string | null }[] = []
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
  const stored = await storeRecords(db, messages, null)
  await storeReactions(db, reactions)
  await settleWebhookEvents(db, outcomes)
  return { stored, reactions }
}

function count(metrics: Metrics, { stored, reactions }: Applied): void {
  countStored(metrics, 'webhook', stored)
  observeLag(metrics, 'webhook', stored)
  for (const { emoji } of reactions) metrics.reactions.inc({ change: emoji === null ? 'unreact' : 'react' })
}
