import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { BenchContext } from './bench.ts'
import { type Child, startChild } from './child.ts'
import { webhookRequest } from './load.ts'
import { serviceEnvironment } from './service.ts'
import { makeWebhooks } from './webhooks.ts'

export type Peer = 'no-database' | 'bare' | 'one-statement-each' | 'inline'

export interface Receivers extends AsyncDisposable {
  /** Signed webhooks as they go over the wire. */
  requests: readonly Buffer[]
  /** The service as it is, in a process of its own; on a database of its own, unless one is given. */
  startReceiver(databaseUrl?: string, env?: Record<string, string>): Promise<Child>
  startPeer(peer: Peer): Promise<Child>
}

/** Receivers to compare, and webhooks for them. */
export async function setUpReceivers({ server, smoke }: BenchContext): Promise<Receivers> {
  await using stack = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'kommo-sync-bench-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const kommo = await startSimulatedKommo()
  stack.defer(() => kommo.close())
  const requests = makeWebhooks(kommo, {
    conversations: smoke ? 50 : 2000,
    webhooksEach: 10,
  }).map(webhookRequest)

  let started = 0
  const opened = stack.move()
  return {
    requests,
    async startReceiver(databaseUrl, env = {}) {
      const url = databaseUrl ?? (await server.createDatabase())
      const child = await startChild('src/server.ts', {
        env: { ...serviceEnvironment(kommo, url, join(folder, String(started++))), ROLE: 'receiver', ...env },
      })
      return opened.use(child)
    },
    async startPeer(peer) {
      const child = await startChild('bench/peers/receiver.ts', {
        env: {
          PEER: peer,
          DATABASE_URL: await server.createDatabase(),
          CHANNEL_ID: kommo.channelId,
          CHANNEL_SECRET: kommo.channelSecret,
        },
      })
      return opened.use(child)
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}
