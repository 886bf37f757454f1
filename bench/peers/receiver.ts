import { type InlineStore, createInlineStore } from './inline-store.ts'
import fastify from 'fastify'
import rawBody from 'fastify-raw-body'
import { Pool } from 'pg'
import { z } from 'zod'
import { buildApp } from '../../src/app.ts'
import { readClaim, verifyWebhook } from '../../src/http/verify-webhook.ts'
import type { Inbox } from '../../src/inbox/inbox.ts'
import { createLogger } from '../../src/logger.ts'
import { createMetrics } from '../../src/metrics.ts'
import { recordWebhooks } from '../../src/store/webhook-events.ts'
import { createRawQueryable } from '../../src/store/connection/raw-queryable.ts'
import { createStatementNames } from '../../src/store/connection/statement-names.ts'

/**
 * What the receiver is measured against: the service's own app with another inbox, or less than that.
 * Prints a line of JSON with its address.
 */
const settings = z
  .object({
    PEER: z.enum(['no-database', 'bare', 'one-statement-each', 'inline']),
    DATABASE_URL: z.string(),
    CHANNEL_ID: z.string(),
    CHANNEL_SECRET: z.string(),
    POOL: z.coerce.number().default(10),
  })
  .parse(process.env)

const { PEER, DATABASE_URL, CHANNEL_ID, CHANNEL_SECRET, POOL } = settings
const channels = [{ id: CHANNEL_ID, secret: CHANNEL_SECRET, previousSecret: null }]
const log = createLogger('info')
const pool = new Pool({ connectionString: DATABASE_URL, max: POOL })
const names = createStatementNames(() => true)
const raw = createRawQueryable(pool, names)

const app =
  PEER === 'bare'
    ? buildBareApp()
    : buildApp({
        log,
        metrics: createMetrics(),
        channels,
        adminToken: null,
        trustedProxies: [],
        inbox: inboxOf(PEER),
        missing: async () => [],
        callForSync: async () => false,
      })
const url = await app.listen({ host: '127.0.0.1', port: 0 })
process.stdout.write(`${JSON.stringify({ url })}\n`)
process.once('SIGTERM', () => {
  void app.close().then(() => pool.end())
})

function inboxOf(peer: 'no-database' | 'one-statement-each' | 'inline'): Pick<Inbox, 'add'> {
  if (peer === 'no-database') return { add: async () => {} }
  if (peer === 'one-statement-each') return { add: (webhook) => recordWebhooks(raw, [webhook]) }
  const store: InlineStore = createInlineStore(pool)
  return { add: (webhook) => store.storeWebhook(webhook) }
}

/** Fastify, the raw body, the signature, and nothing read of what was signed. */
function buildBareApp() {
  const bare = fastify({ loggerInstance: log.child({}), disableRequestLogging: true })
  void bare.register(async (scope) => {
    await scope.register(rawBody, { global: false, encoding: false, runFirst: true })
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
    scope.post<{ Params: { scopeId: string } }>(
      '/webhooks/kommo/:scopeId',
      { config: { rawBody: true } },
      async (request, reply) => {
        const body = Buffer.from(request.rawBody ?? '')
        const signature = String(request.headers['x-signature'])
        const verdict = verifyWebhook(readClaim(channels, request.params.scopeId, signature), body)
        if (verdict.kind === 'refused') return reply.code(401).send()
        return { status: 'accepted' }
      },
    )
  })
  return bare
}
