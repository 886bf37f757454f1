import type { Config } from '../config.ts'
import { createKommoClient } from '../kommo/client.ts'
import { createMetrics } from '../metrics.ts'
import type { Queryable } from '../store/connection/queryable.ts'
import { type HistoryReader, createHistoryReader } from '../sync/history-reader.ts'
import { createRateLimiter } from '../sync/rate-limiter.ts'

export interface OpenHistory extends AsyncDisposable {
  history: HistoryReader
}

/** Kommo's histories, asked for within the rate that all replicas share. */
export function openHistory(config: Config, db: Queryable, metrics = createMetrics()): OpenHistory {
  const kommo = createKommoClient({ baseUrl: config.kommoBaseUrl, channels: config.channels })
  const rateLimiter = createRateLimiter(db, config.requestsPerSecond)
  return {
    history: createHistoryReader({ db, kommo, rateLimiter, metrics }),
    [Symbol.asyncDispose]: () => kommo.close(),
  }
}
