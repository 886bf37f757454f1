import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from './database.ts'
import { type RunningService, startService } from './service.ts'

/** Two invented channels. */
export const FIRST = {
  id: 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354',
  secret: '6f1c0a9d2be84735c1d0e9f8a7b6c5d4',
}
export const SECOND = {
  id: '1d2e3f40-5a6b-4c7d-8e9f-a0b1c2d3e4f5',
  secret: '0f9e8d7c6b5a49382716059483726150',
}

export interface Replicas extends AsyncDisposable {
  kommo: SimulatedKommo
  database: TestDatabase
  start(role: 'receiver' | 'worker' | 'all'): Promise<RunningService>
  startWorkers(count: number): Promise<RunningService[]>
  /** Conversations of a channel with so many messages each. */
  generate(channel: { id: string }, sizes: readonly number[]): Conversation[]
  /** Makes them due as a batch of webhooks does, in one statement, after all that are due already. */
  makeDue(conversations: readonly Conversation[]): Promise<void>
}

/** Any number of processes on one database, asking one simulated Kommo for two channels. */
export async function setUpReplicas(requestsPerSecond: number): Promise<Replicas> {
  const kommo = await startSimulatedKommo({ channels: [FIRST, SECOND] })
  const database = await createTestDatabase()
  const running: RunningService[] = []
  let made = 0

  const start: Replicas['start'] = async (role) => {
    const service = await startService({
      DATABASE_URL: database.url,
      KOMMO_BASE_URL: kommo.url,
      KOMMO_CHANNELS: JSON.stringify([FIRST, SECOND]),
      KOMMO_REQUESTS_PER_SECOND: String(requestsPerSecond),
      RECONCILE_INTERVAL: '0',
      ROLE: role,
    })
    running.push(service)
    return service
  }

  return {
    kommo,
    database,
    start,
    startWorkers: (count) => Promise.all(Array.from({ length: count }, () => start('worker'))),
    generate(channel, sizes) {
      const { scopeId } = kommo.account({ channelId: channel.id })
      return sizes.map((messages) =>
        kommo.conversations.generate({ messages, scopeId, seed: `replicas ${made++}` }),
      )
    },
    async makeDue(conversations) {
      await database.pool.query(
        `INSERT INTO kommo.conversations AS c (id, scope_id, client_id, requested)
        SELECT *, 1 FROM unnest($1::text[], $2::text[], $3::text[])
        ON CONFLICT (id) DO UPDATE SET requested = c.requested + 1`,
        [
          conversations.map(({ id }) => id),
          conversations.map(({ scopeId }) => scopeId),
          conversations.map(({ clientId }) => clientId),
        ],
      )
      await database.pool.query("SELECT pg_notify('kommo_sync', '')")
    },
    async [Symbol.asyncDispose]() {
      for (const { pid } of running) {
        // One that is stopped would not hear of its end.
        try {
          process.kill(pid, 'SIGCONT')
        } catch {
          // It has ended.
        }
      }
      await Promise.all(running.map((service) => service[Symbol.asyncDispose]()))
      await kommo.close()
      await database.drop()
    },
  }
}
