import swagger from '@fastify/swagger'
import { expect, onTestFinished, test } from 'vitest'
import { buildApp } from '../../../src/app.ts'
import { createLogger } from '../../../src/logger.ts'
import { createMetrics } from '../../../src/metrics.ts'
import { VERSION } from '../../../src/version.ts'

const TOKEN = 'a token of the operator'

function build() {
  const app = buildApp({
    log: createLogger('silent'),
    metrics: createMetrics(),
    channels: [],
    adminToken: TOKEN,
    trustedProxies: [],
    inbox: { add: async () => {} },
    hints: { doors: [], addHint() {} },
    missing: async () => [],
    callForSync: async () => true,
    observe(routes) {
      void routes.register(swagger, {
        openapi: {
          openapi: '3.1.0',
          info: {
            title: 'kommo-sync',
            version: VERSION,
            description: 'The routes of the service. Errors are `application/problem+json` (RFC 9457).',
          },
          components: { securitySchemes: { adminToken: { type: 'http', scheme: 'bearer' } } },
        },
      })
    },
  })
  onTestFinished(() => app.close())
  return app
}

test('docs/openapi.json describes the routes as they are', async () => {
  const app = build()
  await app.ready()
  const document = app.swagger()
  expect(Object.keys(document.paths ?? {}).toSorted()).toEqual([
    '/conversations/{id}/sync',
    '/healthz',
    '/hints/kommo/{token}',
    '/metrics',
    '/readyz',
    '/webhooks/kommo/{scopeId}',
  ])
  await expect(`${JSON.stringify(document, null, 2)}\n`).toMatchFileSnapshot('../../../docs/openapi.json')
})

test('answers have every field that they had before they were described', async () => {
  const app = build()
  const answer = async (method: 'GET' | 'POST', url: string, headers = {}) =>
    (await app.inject({ method, url, headers })).json<unknown>()
  expect(await answer('GET', '/healthz')).toEqual({ status: 'ok' })
  expect(await answer('GET', '/readyz')).toEqual({ status: 'ready' })
  expect(await answer('POST', '/conversations/an-id/sync', { authorization: `Bearer ${TOKEN}` })).toEqual({
    status: 'accepted',
    conversation_id: 'an-id',
  })
  expect(await answer('POST', '/conversations/an-id/sync')).toEqual({
    type: 'about:blank',
    title: 'Unauthorized',
    status: 401,
    detail: 'The bearer token is missing or wrong.',
  })
})
