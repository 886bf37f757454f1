import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { buildApp } from './app.ts'
import type { Config } from './config.ts'
import type { InboxWebhook } from './domain/webhook.ts'
import { startEmbeddedPostgres } from './embedded/postgres.ts'
import { createGroupCommit } from './inbox/group-commit.ts'
import { createKommoClient } from './kommo/client.ts'
import { createMetrics } from './metrics.ts'
import { callForSync } from './store/conversations.ts'
import { migrate, pendingMigrations } from './store/migrate.ts'
import { type Database, createDatabase } from './store/prisma.ts'
import { recordWebhooks } from './store/webhook-events.ts'
import { createRateLimiter } from './sync/rate-limiter.ts'
import { startWorker } from './sync/worker.ts'

/** The one place where things are made and joined. Each closes what it opened, in reverse order. */

const MIB = 1024 * 1024
const INBOX_BATCH = { items: 200, bytes: 8 * MIB }
/** What waits behind a slow commit; Kommo has given up on the last of a longer queue anyway. */
const INBOX_QUEUE = { items: 10_000, bytes: 64 * MIB }
/** One commits; the other is warm for when the first is lost. */
const INBOX_CONNECTIONS = 2
/** Kommo waits 5 s for the answer (documented). */
const INBOX_TIMEOUT_MS = 3000

export interface OpenDatabase extends AsyncDisposable {
  database: Database
}

/** The database named by the configuration, or the embedded one, as it is: not migrated. */
export async function openDatabase(config: Config, log: Logger): Promise<OpenDatabase> {
  await using stack = new AsyncDisposableStack()
  let url = config.databaseUrl
  if (url === null) {
    const embedded = await startEmbeddedPostgres({ dataDir: config.dataDir, log })
    stack.defer(() => embedded.stop())
    url = embedded.url
  }
  const database = createDatabase(url, { log })
  stack.defer(() => database.close())
  const opened = stack.move()
  return { database, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}

/** A worker with all it needs; the service runs one, and `backfill` another. */
export function openWorker(
  config: Config,
  database: Database,
  log: Logger,
  metrics = createMetrics(),
): AsyncDisposable {
  const kommo = createKommoClient({ baseUrl: config.kommoBaseUrl, channels: config.channels })
  const worker = startWorker({
    database,
    kommo,
    rateLimiter: createRateLimiter(database.prisma, config.requestsPerSecond),
    metrics,
    log: log.child({ component: 'worker' }),
    retentionDays: config.retentionDays,
  })
  return {
    async [Symbol.asyncDispose]() {
      await worker.stop()
      await kommo.close()
    },
  }
}

export interface Service extends AsyncDisposable {
  app: FastifyInstance
}

/**
 * The whole service, not yet listening. Disposing it stops in order: not ready, requests answered, the last commit,
 * pages finished and claims given back, connections closed.
 */
export async function openService(config: Config, log: Logger): Promise<Service> {
  await using stack = new AsyncDisposableStack()
  const { database } = stack.use(await openDatabase(config, log))
  await migrate(database.url, { log })

  const metrics = createMetrics()
  if (config.role !== 'receiver') stack.use(openWorker(config, database, log, metrics))

  // Connections of its own, so that a busy worker never makes a webhook wait.
  const inboxDatabase = createDatabase(database.url, {
    log,
    maxConnections: INBOX_CONNECTIONS,
    timeoutMs: INBOX_TIMEOUT_MS,
  })
  stack.defer(() => inboxDatabase.close())
  const inbox = createGroupCommit<InboxWebhook>({
    bytesOf: ({ body }) => body.byteLength,
    batch: INBOX_BATCH,
    queue: INBOX_QUEUE,
    async commit(webhooks) {
      await recordWebhooks(inboxDatabase.prisma, webhooks)
      metrics.webhookBatch.observe(webhooks.length)
    },
  })
  stack.defer(() => inbox.drain())

  let draining = false
  const app = buildApp({
    log,
    metrics,
    channels: config.channels,
    adminToken: config.adminToken,
    inbox: config.role === 'worker' ? null : inbox,
    callForSync: (call) => callForSync(database.prisma, call),
    missing: async () => (draining ? ['draining'] : missingFrom(database)),
  })
  stack.defer(async () => {
    draining = true
    metrics.draining.set(1)
    await app.close()
  })

  const opened = stack.move()
  return { app, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}

async function missingFrom(database: Database): Promise<string[]> {
  try {
    const pending = await pendingMigrations(database.pool)
    return pending.length === 0 ? [] : [`migrations ${pending.join(', ')}`]
  } catch {
    return ['database']
  }
}
