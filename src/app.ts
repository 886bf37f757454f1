import fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import type { Logger } from 'pino'
import type { Channel } from './domain/channel.ts'
import type { InboxWebhook } from './domain/webhook.ts'
import { handleError, handleNotFound } from './http/error-handler.ts'
import { healthRoutes } from './http/routes/health.ts'
import { syncConversationRoute } from './http/routes/sync-conversation.ts'
import { webhookRoute } from './http/routes/webhook.ts'
import type { GroupCommit } from './inbox/group-commit.ts'
import type { Metrics } from './metrics.ts'
import type { SyncCall } from './store/conversations.ts'

const BODY_LIMIT_BYTES = 1024 * 1024

export interface AppOptions {
  log: Logger
  metrics: Metrics
  channels: readonly Channel[]
  adminToken: string | null
  /** `null` in a worker: it takes no webhooks. */
  inbox: GroupCommit<InboxWebhook> | null
  missing(): Promise<string[]>
  callForSync(call: SyncCall): Promise<boolean>
}

/** Plugins and routes; never listens, never reads the environment. */
export function buildApp(options: AppOptions): FastifyInstance {
  const { log, metrics, channels, inbox } = options
  const loggerInstance: FastifyBaseLogger = log.child({ component: 'http' })
  const app = fastify({
    loggerInstance,
    // Two lines for each webhook would be the bulk of the log; the metrics count them.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_LIMIT_BYTES,
    // A scope id has 73 characters; a longer one must be answered 401, not 404.
    routerOptions: { maxParamLength: 4096 },
    // Kommo waits 5 s for an answer; a request that takes longer to arrive is none of theirs.
    requestTimeout: 10_000,
    forceCloseConnections: 'idle',
  })
  app.setErrorHandler(handleError)
  app.setNotFoundHandler(handleNotFound)

  void app.register(healthRoutes, options)
  if (inbox !== null) void app.register(webhookRoute, { channels, inbox, metrics })
  void app.register(syncConversationRoute, {
    ...options,
    isKnownChannel: (scopeId) => channels.some(({ id }) => scopeId.toLowerCase().startsWith(`${id}_`)),
  })
  return app
}
