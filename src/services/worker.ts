import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { createKommoClient } from '../kommo/client.ts'
import { createMetrics } from '../metrics.ts'
import type { Database } from '../store/prisma.ts'
import { createRateLimiter } from '../sync/rate-limiter.ts'
import { startWorker } from '../sync/worker.ts'

/** A worker with all it needs; the service runs one, `backfill` and `replay` another. */
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
    channelIds: config.channels.map(({ id }) => id),
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
