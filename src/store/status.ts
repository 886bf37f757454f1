import type { WebhookKind } from '../domain/webhook.ts'
import type { Queryable } from './queryable.ts'

export interface SyncStatus {
  conversations: { total: number; complete: number; behind: number; failing: number; dead: number }
  messages: { total: number; withMedia: number }
  webhooks: { kind: WebhookKind; total: number; pending: number; failed: number }[]
  /** The latest twenty. */
  failing: { id: string; attempts: number; lastError: string | null; deadAt: Date | null }[]
  /** Channels that nobody may ask now. */
  channels: { channelId: string; blockedUntil: Date; reason: string | null }[]
}

export async function readStatus(db: Queryable): Promise<SyncStatus> {
  const [conversations] = await db.$queryRaw<SyncStatus['conversations'][]>`
    SELECT count(*)::float8 AS total,
      (count(*) FILTER (WHERE history_complete))::float8 AS complete,
      (count(*) FILTER (WHERE requested > processed AND dead_at IS NULL))::float8 AS behind,
      (count(*) FILTER (WHERE attempts > 0 AND dead_at IS NULL))::float8 AS failing,
      (count(*) FILTER (WHERE dead_at IS NOT NULL))::float8 AS dead
    FROM kommo.conversations`
  const [messages] = await db.$queryRaw<SyncStatus['messages'][]>`
    SELECT (SELECT count(*) FROM kommo.messages)::float8 AS total,
      (SELECT count(*) FROM kommo.media)::float8 AS "withMedia"`
  const webhooks = await db.$queryRaw<SyncStatus['webhooks']>`
    SELECT kind, count(*)::float8 AS total, (count(*) FILTER (WHERE processed_at IS NULL))::float8 AS pending,
      (count(*) FILTER (WHERE error IS NOT NULL))::float8 AS failed
    FROM kommo.webhook_events GROUP BY kind ORDER BY kind`
  const failing = await db.$queryRaw<SyncStatus['failing']>`
    SELECT id, attempts, last_error AS "lastError", dead_at AS "deadAt" FROM kommo.conversations
    WHERE attempts > 0 OR dead_at IS NOT NULL ORDER BY updated_at DESC LIMIT 20`
  const channels = await db.$queryRaw<SyncStatus['channels']>`
    SELECT channel_id AS "channelId", blocked_until AS "blockedUntil", blocked_reason AS reason
    FROM kommo.rate_limits WHERE blocked_until > now() ORDER BY channel_id`
  if (conversations === undefined || messages === undefined)
    throw new Error('unreachable: aggregates return one row')
  return { conversations, messages, webhooks, failing, channels }
}
