import type { Queryable } from './connection/queryable.ts'

export interface SyncHealth {
  behind: number
  failing: number
  dead: number
  /** How long the conversation that has waited for longest has been due; 0 when none is. */
  oldestBehindMs: number
  /** Answered, and not worked into the tables yet. */
  webhooksWaiting: number
  oldestWaitingMs: number
  blockedChannels: string[]
}

/** What the view `kommo.sync_health` says, for metrics. */
export async function readSyncHealth(db: Queryable): Promise<SyncHealth> {
  const [health] = await db.$queryRaw<SyncHealth[]>`
    SELECT behind::float8, failing::float8, dead::float8,
      (extract(epoch FROM lag) * 1000)::float8 AS "oldestBehindMs",
      webhooks_waiting::float8 AS "webhooksWaiting",
      COALESCE(extract(epoch FROM now() - oldest_waiting_webhook_at) * 1000, 0)::float8 AS "oldestWaitingMs",
      ARRAY(SELECT channel_id FROM kommo.rate_limits WHERE blocked_until > now()) AS "blockedChannels"
    FROM kommo.sync_health`
  if (health === undefined) throw new Error('unreachable: the view has one row')
  return health
}
