import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { createMetrics } from '../metrics.ts'
import type { Database } from '../store/connection/database.ts'
import { startWorker } from '../sync/worker.ts'
import { openHistory } from './history.ts'

/** A worker with all it needs; the service runs one, `backfill` and `replay` another. */
export function openWorker(
  config: Config,
  database: Database,
  log: Logger,
  metrics = createMetrics(),
): AsyncDisposable {
  const stack = new AsyncDisposableStack()
  const { history } = stack.use(openHistory(config, database.prisma, metrics))
  const worker = startWorker({
    database,
    history,
    channelIds: config.channels.map(({ id }) => id),
    metrics,
    log: log.child({ component: 'worker' }),
    retentionDays: config.retentionDays,
  })
  stack.defer(() => worker.stop())
  return stack
}
