import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { callForSync } from '../../src/store/conversations.ts'
import { type Database, createDatabase } from '../../src/store/connection/database.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { type Child, startChild } from './child.ts'
import type { BenchServer } from './server.ts'
import { type Simulator, startSimulator } from './simulator.ts'

/** What the service is told; reconcile would ask Kommo on its own. */
export function serviceEnvironment(
  kommo: Pick<SimulatedKommo, 'url' | 'channelId' | 'channelSecret'>,
  databaseUrl: string,
  dataDir: string,
): Record<string, string> {
  return {
    HOST: '127.0.0.1',
    PORT: '0',
    DATA_DIR: dataDir,
    DATABASE_URL: databaseUrl,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    RECONCILE_INTERVAL: '0',
  }
}

export interface Surroundings extends AsyncDisposable {
  kommo: SimulatedKommo
  databaseUrl: string
  /** On that database. */
  client: Client
  /** The service as a process of its own. */
  start(env?: Record<string, string>): Promise<Child>
}

/** A database and a simulated Kommo in this process, for a service that is not started yet. */
export async function openSurroundings(server: BenchServer): Promise<Surroundings> {
  await using stack = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'kommo-sync-bench-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const kommo = await startSimulatedKommo()
  stack.defer(() => kommo.close())
  const databaseUrl = await server.createDatabase()
  const client = new Client({ connectionString: databaseUrl })
  await client.connect()
  stack.defer(() => client.end())
  const opened = stack.move()
  return {
    kommo,
    databaseUrl,
    client,
    start: async (env = {}) =>
      opened.use(
        await startChild('src/server.ts', {
          env: { ...serviceEnvironment(kommo, databaseUrl, folder), ...env },
        }),
      ),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}

export interface Walker extends AsyncDisposable {
  /** A process of its own, like the worker: neither takes a turn from the other. */
  kommo: Simulator
  database: Database
  worker: Child
  /** Calls for a walk to the oldest message. */
  call(conversationId: string): Promise<unknown>
}

/** A worker that may ask as fast as it can, and conversations for it. */
export async function startWalker(
  server: BenchServer,
  histories: { conversations: number; messages: number },
): Promise<Walker> {
  await using stack = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'kommo-sync-bench-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const kommo = stack.use(await startSimulator(histories))
  const databaseUrl = await server.createDatabase()
  const database = createDatabase(databaseUrl, { maxConnections: 2 })
  stack.defer(() => database.close())
  const worker = stack.use(
    await startChild('src/server.ts', {
      env: {
        ...serviceEnvironment(kommo, databaseUrl, folder),
        ROLE: 'worker',
        KOMMO_REQUESTS_PER_SECOND: '10000',
      },
    }),
  )
  const opened = stack.move()
  return {
    kommo,
    database,
    worker,
    call: (conversationId) =>
      callForSync(database.prisma, { conversationId, scopeId: kommo.scopeId, full: true, patient: false }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}
