import fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import type { Logger } from 'pino'
import type { Channel } from './domain/channel.ts'
import { handleError, handleNotFound } from './http/error-handler.ts'
import { answerWhatIsNotHttp } from './http/not-http.ts'
import { healthRoutes } from './http/routes/health.ts'
import { type HintRouteOptions, hintsRoute } from './http/routes/hints.ts'
import { syncConversationRoute } from './http/routes/sync-conversation.ts'
import { webhookRoute } from './http/routes/webhook.ts'
import { SECURITY_HEADERS } from './http/security-headers.ts'
import type { Inbox } from './inbox/inbox.ts'
import type { Metrics } from './metrics.ts'
import type { SyncCall } from './store/conversations.ts'

const BODY_LIMIT_BYTES = 1024 * 1024

export interface AppOptions {
  log: Logger
  metrics: Metrics
  channels: readonly Channel[]
  adminToken: string | null
  /** Proxies in front (addresses, CIDR, `loopback`, …) whose word on the client's address is taken; `[]`: nobody's. */
  trustedProxies: readonly string[]
  /** `null` in a worker: it takes no webhooks. */
  inbox: Pick<Inbox, 'add'> | null
  /** Absent: there is no such door. */
  hints?: HintRouteOptions
  missing(): Promise<string[]>
  /** Called before any route is there: for what looks at the routes, like the OpenAPI document. */
  observe?(app: FastifyInstance): void
  callForSync(call: SyncCall): Promise<boolean>
}

/** Plugins and routes; never listens, never reads the environment. */
export function buildApp(options: AppOptions): FastifyInstance {
  const { log, metrics, channels, inbox, hints, trustedProxies } = options
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
    // Node looks every half a minute, and takes the longer of the two limits for the request (its default here is 60 s).
    http: { connectionsCheckingInterval: 1000, headersTimeout: 10_000 },
    forceCloseConnections: 'idle',
    trustProxy: trustedProxies.length === 0 ? false : [...trustedProxies],
    clientErrorHandler: answerWhatIsNotHttp,
    // An address that cannot be read meets no hook.
    frameworkErrors: (error, request, reply) => handleError(error, request, reply.headers(SECURITY_HEADERS)),
  })
  // The schemas describe; what comes in is checked where it is understood.
  app.setValidatorCompiler(() => () => true)
  options.observe?.(app)
  app.addHook('onRequest', async (_request, reply) => {
    reply.headers(SECURITY_HEADERS)
  })
  app.setErrorHandler(handleError)
  app.setNotFoundHandler(handleNotFound)

  void app.register(healthRoutes, options)
  if (inbox !== null) void app.register(webhookRoute, { channels, inbox, metrics })
  if (hints !== undefined) void app.register(hintsRoute, hints)
  void app.register(syncConversationRoute, {
    ...options,
    isKnownChannel: (scopeId) => channels.some(({ id }) => scopeId.toLowerCase().startsWith(`${id}_`)),
  })
  return app
}
