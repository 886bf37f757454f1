import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import type { Metrics } from '../metrics.ts'
import { wakeWorkers } from '../store/connection/listen.ts'
import type { Database } from '../store/connection/database.ts'
import { startHeartbeat } from '../sync/heartbeat.ts'
import { startReconcile } from '../sync/reconcile.ts'
import { openWorker } from './worker.ts'

/** What the service does beside answering requests; it needs the tables. */
export function openBackground(
  config: Config,
  database: Database,
  parentLog: Logger,
  metrics: Metrics,
): AsyncDisposable {
  const stack = new AsyncDisposableStack()
  const { role, reconcileIntervalMs, requestsPerSecond } = config
  const log = parentLog.child({ component: 'background' })

  const heartbeat = startHeartbeat({ database, log, role, reconcileIntervalMs })
  stack.defer(() => heartbeat.stop())
  if (role === 'receiver') return stack

  // After the worker has given its claims back.
  stack.defer(() =>
    wakeWorkers(database.prisma).catch((error: unknown) => log.debug({ err: error }, 'nobody was told')),
  )
  stack.use(openWorker(config, database, parentLog, metrics))
  if (reconcileIntervalMs > 0) {
    const channelIds = config.channels.map(({ id }) => id)
    const reconcile = startReconcile({
      database,
      log,
      channelIds,
      requestsPerSecond,
      intervalMs: reconcileIntervalMs,
    })
    stack.defer(() => reconcile.stop())
  }
  return stack
}
