import { setTimeout as sleep } from 'node:timers/promises'
import { Gauge, type GaugeConfiguration, type Registry } from 'prom-client'
import type { SyncHealth } from '../store/sync-health.ts'

export interface HealthMetricsOptions {
  registry: Registry
  channelIds: readonly string[]
  read(): Promise<SyncHealth>
  /** Whoever scrapes more often gets the same figures again: they cost the database a count. */
  cacheMs?: number
  /** A database that does not answer by then is away. */
  timeoutMs?: number
  now?: () => number
}

/**
 * What only the database knows. Every process tells the same; while the database is away these figures are absent, and
 * `kommo_sync_database_up` says why.
 */
export function addHealthMetrics({
  registry,
  channelIds,
  read,
  cacheMs = 10_000,
  timeoutMs = 2000,
  now = Date.now,
}: HealthMetricsOptions): void {
  let known: { at: number; health: Promise<SyncHealth | null> } | null = null

  function latest(): Promise<SyncHealth | null> {
    if (known === null || now() - known.at >= cacheMs) {
      const reading = read().catch(() => null)
      known = { at: now(), health: Promise.race([reading, sleep(timeoutMs, null, { ref: false })]) }
    }
    return known.health
  }

  function add<Label extends string>(configuration: GaugeConfiguration<Label>): void {
    registry.registerMetric(new Gauge({ ...configuration, registers: [] }))
  }

  function gauge(name: string, help: string, valueOf: (health: SyncHealth) => number): void {
    add({
      name,
      help,
      async collect() {
        const health = await latest()
        if (health === null) this.remove()
        else this.set(valueOf(health))
      },
    })
  }

  add({
    name: 'kommo_sync_database_up',
    help: '1 if the database answered lately, else 0',
    async collect() {
      this.set((await latest()) === null ? 0 : 1)
    },
  })
  add({
    name: 'kommo_sync_conversations',
    help: 'Conversations that are due to be read (behind), could not be read the last time (failing), or were given up (dead)',
    labelNames: ['state'],
    async collect() {
      const health = await latest()
      this.reset()
      if (health === null) return
      for (const state of ['behind', 'failing', 'dead'] as const) this.set({ state }, health[state])
    },
  })
  add({
    name: 'kommo_sync_channel_blocked',
    help: '1 while a channel must not be asked: Kommo refused the rate or the secret',
    labelNames: ['channel_id'],
    async collect() {
      const health = await latest()
      this.reset()
      if (health === null) return
      for (const id of channelIds) this.set({ channel_id: id }, health.blockedChannels.includes(id) ? 1 : 0)
    },
  })
  gauge(
    'kommo_sync_oldest_behind_age_seconds',
    'How long the conversation that has waited for longest has been due; 0 when none is',
    ({ oldestBehindMs }) => Math.max(0, oldestBehindMs) / 1000,
  )
  gauge(
    'kommo_sync_webhooks_waiting',
    'Webhooks that were answered and are not worked into the tables yet',
    ({ webhooksWaiting }) => webhooksWaiting,
  )
  gauge(
    'kommo_sync_oldest_waiting_webhook_age_seconds',
    'How long ago the oldest of them arrived; 0 when none waits',
    ({ oldestWaitingMs }) => Math.max(0, oldestWaitingMs) / 1000,
  )
}
