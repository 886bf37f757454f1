import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { WEBHOOK_KINDS } from './domain/webhook.ts'

export type Metrics = ReturnType<typeof defineMetrics>

/** Why a webhook was not accepted. */
export const REJECTION_REASONS = [
  'no_signature',
  'wrong_signature',
  'unknown_channel',
  'too_large',
  'unreadable',
  'not_kept',
] as const
export type RejectionReason = (typeof REJECTION_REASONS)[number]

/** Everything that `GET /metrics` shows. Labels are bounded: kinds, reasons, statuses; never ids or anything personal. */
export function createMetrics(): Metrics {
  const metrics = defineMetrics()
  startAtZero(metrics)
  return metrics
}

function defineMetrics() {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  // Gauges with the names of counters, which Prometheus' own check refuses; each has a sibling without `_total`.
  for (const name of ['handles', 'requests', 'resources']) {
    registry.removeSingleMetric(`nodejs_active_${name}_total`)
  }
  return {
    registry,
    webhooksAccepted: new Counter({
      name: 'kommo_sync_webhooks_accepted_total',
      help: 'Webhooks answered 200, by kind',
      labelNames: ['kind'] as const,
      registers,
    }),
    webhooksRejected: new Counter({
      name: 'kommo_sync_webhooks_rejected_total',
      help: 'Webhooks not accepted, by reason',
      labelNames: ['reason'] as const,
      registers,
    }),
    webhookOddities: new Counter({
      name: 'kommo_sync_webhook_oddities_total',
      help: 'Accepted webhooks with something to look at: previous secret, trimmed body, another account in the address',
      labelNames: ['oddity'] as const,
      registers,
    }),
    webhookSeconds: new Histogram({
      name: 'kommo_sync_webhook_answer_seconds',
      help: 'Time to answer a webhook; Kommo waits 5 s',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3.5, 5],
      registers,
    }),
    webhookBatch: new Histogram({
      name: 'kommo_sync_webhook_batch_size',
      help: 'Webhooks in one commit',
      buckets: [1, 2, 5, 10, 20, 50, 100, 200],
      registers,
    }),
    databaseAway: new Gauge({
      name: 'kommo_sync_database_away',
      help: '1 while webhooks are kept on disk because the database cannot take them',
      registers,
    }),
    spoolWebhooks: new Gauge({
      name: 'kommo_sync_spool_webhooks',
      help: 'Webhooks on disk that the database does not have yet',
      registers,
    }),
    spoolBytes: new Gauge({
      name: 'kommo_sync_spool_bytes',
      help: 'Bytes of the webhooks on disk',
      registers,
    }),
    spoolOldest: new Gauge({
      name: 'kommo_sync_spool_oldest_timestamp_seconds',
      help: 'When the oldest webhook on disk arrived, in seconds since 1970; 0 when there is none',
      registers,
    }),
    spooledWebhooks: new Counter({
      name: 'kommo_sync_spooled_webhooks_total',
      help: 'Webhooks that went to disk because the database could not take them',
      registers,
    }),
    spoolCorrupt: new Counter({
      name: 'kommo_sync_spool_corrupt_records_total',
      help: 'Damaged stretches found on disk; the file is kept with the ending .corrupt',
      registers,
    }),
    historyRequests: new Counter({
      name: 'kommo_sync_history_requests_total',
      help: 'History requests to Kommo, by answer: ok, a status, unreachable or unreadable',
      labelNames: ['answer'] as const,
      registers,
    }),
    rateWaitSeconds: new Histogram({
      name: 'kommo_sync_rate_wait_seconds',
      help: "Time that a history request waited for its channel's turn",
      buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    }),
    pages: new Counter({
      name: 'kommo_sync_pages_total',
      help: 'Pages of history that were stored',
      registers,
    }),
    messageLagSeconds: new Histogram({
      name: 'kommo_sync_message_lag_seconds',
      help: "From Kommo's time of a message to its row, by source (webhook, history; not the first walk, which brings old messages)",
      labelNames: ['source'] as const,
      buckets: [0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400],
      registers,
    }),
    messages: new Counter({
      name: 'kommo_sync_messages_total',
      help: 'Messages written, by source (webhook, history) and outcome (inserted, updated, unchanged)',
      labelNames: ['source', 'outcome'] as const,
      registers,
    }),
    reactions: new Counter({
      name: 'kommo_sync_reactions_total',
      help: 'Reactions that webhooks told of, by change: react, unreact',
      labelNames: ['change'] as const,
      registers,
    }),
    messagesRepaired: new Counter({
      name: 'kommo_sync_messages_repaired_total',
      help: 'Messages that a read without a webhook found, by direction: of outgoing ones a webhook should have told',
      labelNames: ['direction'] as const,
      registers,
    }),
    syncs: new Counter({
      name: 'kommo_sync_syncs_total',
      help: 'Syncs of a conversation, by outcome',
      labelNames: ['outcome'] as const,
      registers,
    }),
    buildInfo: new Gauge({
      name: 'kommo_sync_build_info',
      help: '1, labelled with what runs: version, node_version, role',
      labelNames: ['version', 'node_version', 'role'] as const,
      registers,
    }),
    draining: new Gauge({
      name: 'kommo_sync_draining',
      help: '1 while the process finishes its work before it ends',
      registers,
    }),
  }
}

/** What a first event makes of an absent counter is no increase, and an alert would not see it. */
function startAtZero({ webhooksAccepted, webhooksRejected, messages, messagesRepaired }: Metrics): void {
  for (const kind of WEBHOOK_KINDS) webhooksAccepted.inc({ kind }, 0)
  for (const reason of REJECTION_REASONS) webhooksRejected.inc({ reason }, 0)
  for (const direction of ['incoming', 'outgoing']) messagesRepaired.inc({ direction }, 0)
  for (const source of ['webhook', 'history']) {
    for (const outcome of ['inserted', 'updated', 'unchanged']) messages.inc({ source, outcome }, 0)
  }
}

/** Counts what a write came to. */
export function countStored(
  { messages }: Metrics,
  source: 'webhook' | 'history',
  stored: { inserted: number; updated: number; unchanged: number },
): void {
  messages.inc({ source, outcome: 'inserted' }, stored.inserted)
  messages.inc({ source, outcome: 'updated' }, stored.updated)
  messages.inc({ source, outcome: 'unchanged' }, stored.unchanged)
}

/** Counts what a read found that no webhook had told of. */
export function countRepaired(
  { messagesRepaired }: Metrics,
  { inserted, insertedOutgoing }: { inserted: number; insertedOutgoing: number },
): void {
  messagesRepaired.inc({ direction: 'outgoing' }, insertedOutgoing)
  messagesRepaired.inc({ direction: 'incoming' }, inserted - insertedOutgoing)
}

/** How far behind Kommo the rows are. Clocks differ, so a message may seem to come from the future: that is no lag. */
export function observeLag(
  { messageLagSeconds }: Metrics,
  source: 'webhook' | 'history',
  { insertedLagMs }: { insertedLagMs: readonly number[] },
): void {
  for (const lagMs of insertedLagMs) messageLagSeconds.observe({ source }, Math.max(0, lagMs) / 1000)
}
