import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { buildApp } from '../app.ts'
import type { Config } from '../config.ts'
import { createMetrics } from '../metrics.ts'
import { VERSION } from '../version.ts'
import { createAvailability } from '../store/connection/availability.ts'
import { callForSync } from '../store/conversations.ts'
import { migrateInTheEnd } from '../store/migrations/migrate-in-the-end.ts'
import { readSyncHealth } from '../store/sync-health.ts'
import { startHints } from '../sync/hints.ts'
import { openBackground } from './background.ts'
import { openDatabase } from './database.ts'
import { addHealthMetrics } from './health-metrics.ts'
import { openInbox } from './inbox.ts'

/** Migrating in a database that hangs cannot be called off; the session ends with the process. */
const MIGRATION_END_MS = 3000
/** A client that has not sent its request by then, or does not read its answer, is let go: the rest has to stop too. */
const FINISH_REQUESTS_MS = 4000
/** A database that does not answer by then does not keep the process from ending; leases run out. */
const CUT_OFF_MS = 6000
/** For the tables of a database that is there; webhooks should not wait longer for them. */
const START_WAIT_MS = 5000

export interface Service extends AsyncDisposable {
  app: FastifyInstance
}

/**
 * The whole service, not yet listening. Where the database is away it takes webhooks all the same, and the rest begins when
 * the database is back. Disposing it stops in order: not ready, for `drainDelayMs`; requests answered, and beside them pages finished and claims
 * given back; the last commit; connections closed.
 * @throws MigrationError where the tables cannot be brought up to date and waiting does not help.
 */
export async function openService(config: Config, log: Logger): Promise<Service> {
  await using stack = new AsyncDisposableStack()
  const { database } = stack.use(await openDatabase(config, log))
  const metrics = createMetrics()
  addHealthMetrics({
    registry: metrics.registry,
    channelIds: config.channels.map(({ id }) => id),
    read: () => readSyncHealth(database.prisma),
  })
  metrics.buildInfo.set({ version: VERSION, node_version: process.version, role: config.role }, 1)

  const stopping = new AbortController()
  const delayed = Promise.withResolvers<boolean>()
  let starting = true
  const migrated = migrateInTheEnd(database.url, {
    log,
    signal: stopping.signal,
    isStarting: () => starting,
    onDelay: () => delayed.resolve(false),
  })
  stack.defer(async () => {
    stopping.abort()
    await Promise.race([migrated.catch(() => {}), sleep(MIGRATION_END_MS, undefined, { ref: false })])
  })
  const inTime = sleep(START_WAIT_MS, false, { ref: false })
  const isMigrated = await Promise.race([migrated.then(() => true), delayed.promise, inTime])
  starting = false

  const background = migrated.then(
    () => openBackground(config, database, log, metrics),
    () => null,
  )
  let backgroundStopped: Promise<void> | null = null
  function stopBackground(): Promise<void> {
    stopping.abort()
    backgroundStopped ??= background.then((running) => running?.[Symbol.asyncDispose]())
    return backgroundStopped
  }
  stack.defer(stopBackground)

  const inbox =
    config.role === 'worker'
      ? null
      : stack.use(await openInbox(config, database.url, log, metrics, !isMigrated))
  const hints =
    config.role === 'worker' || config.hintDoors.length === 0 ? null : startHints({ database, log })
  stack.defer(() => hints?.stop())
  const availability = createAvailability(database.pool)

  let draining = false
  const app = buildApp({
    log,
    metrics,
    channels: config.channels,
    adminToken: config.adminToken,
    trustedProxies: config.trustedProxies,
    inbox,
    ...(hints === null ? {} : { hints: { doors: config.hintDoors, addHint: hints.add } }),
    callForSync: (call) => callForSync(database.prisma, call),
    async missing() {
      if (draining) return ['draining']
      const absent = await availability.missing()
      return absent.length === 0 && inbox?.state === 'spool' ? ['database'] : absent
    },
  })
  app.addHook('onRequest', async (_request, reply) => {
    if (draining) reply.header('connection', 'close')
  })
  stack.defer(async () => {
    draining = true
    metrics.draining.set(1)
    const cutOff = setTimeout(() => database.cutOff(), config.drainDelayMs + CUT_OFF_MS)
    cutOff.unref()
    // Beside the requests, so that others can go on with the conversations at once. Its outcome is awaited further down.
    stopBackground().catch(() => {})
    // Whoever sends us requests has to notice first: a webhook is sent once, and not again when it is refused.
    if (inbox !== null && app.server.listening) await sleep(config.drainDelayMs)
    const patience = setTimeout(() => app.server.closeAllConnections(), FINISH_REQUESTS_MS)
    await app.close()
    clearTimeout(patience)
  })

  const opened = stack.move()
  return { app, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}
