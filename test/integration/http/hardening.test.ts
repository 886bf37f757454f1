import { once } from 'node:events'
import { connect } from 'node:net'
import type { InjectOptions } from 'fastify'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type AppOptions, buildApp } from '../../../src/app.ts'
import { createLogger } from '../../../src/logger.ts'
import { createMetrics } from '../../../src/metrics.ts'

const TOKEN = 'a token of the operator'
const CHANNEL = { id: 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354', secret: 'secret', previousSecret: null }

function open(options: Partial<AppOptions> = {}) {
  const app = buildApp({
    log: createLogger('silent'),
    metrics: createMetrics(),
    channels: [CHANNEL],
    adminToken: TOKEN,
    trustedProxies: [],
    inbox: { add: () => Promise.reject(new Error('nothing is signed here')) },
    missing: async () => [],
    callForSync: async () => true,
    ...options,
  })
  onTestFinished(() => app.close())
  return app
}

const sync = (headers: Record<string, string>, remoteAddress = '192.0.2.1'): InjectOptions => ({
  method: 'POST',
  url: '/conversations/some-id/sync',
  headers,
  remoteAddress,
})
const RIGHT = { authorization: `Bearer ${TOKEN}` }
const WRONG = { authorization: 'Bearer a guess' }

describe('every answer', () => {
  test.each<[string, InjectOptions]>([
    ['200', { url: '/healthz' }],
    ['a metric', { url: '/metrics' }],
    ['401', { method: 'POST', url: `/webhooks/kommo/${CHANNEL.id}_a`, payload: '{}' }],
    ['404', { url: '/nothing' }],
    ['413', { method: 'POST', url: '/webhooks/kommo/x', payload: Buffer.alloc(1024 * 1024 + 1) }],
    ['an address that cannot be read', { url: '/%zz' }],
  ])('(%s) forbids to keep, sniff and frame it, and names no framework', async (_name, request) => {
    const { headers, body } = await open().inject(request)
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'x-content-type-options': 'nosniff',
    })
    expect(headers).not.toHaveProperty('server')
    expect(headers).not.toHaveProperty('x-powered-by')
    expect(body).not.toMatch(/fastify|FST_|%zz/i)
  })
})

describe('what is no HTTP', () => {
  test.each([
    ['nonsense', 'SECRET NONSENSE\r\n\r\n', 400],
    ['too many headers', `GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    ['two lengths', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 400],
  ])('is answered as a problem that quotes nothing: %s', async (_name, sent, status) => {
    const app = open()
    const { port } = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(sent)
    let answer = ''
    socket.setEncoding('utf8').on('data', (part: string) => (answer += part))
    await once(socket, 'close')
    const [head = '', body = ''] = answer.split('\r\n\r\n')
    expect(head).toContain(`HTTP/1.1 ${status} `)
    expect(head).toContain('application/problem+json')
    expect(JSON.parse(body)).toMatchObject({ status, detail: 'The request cannot be read.' })
    expect(answer).not.toMatch(/SECRET|fastify|Client Error/i)
  })
})

describe('wrong tokens', () => {
  /** The answers to so many guesses, counted. */
  async function guess(app: ReturnType<typeof open>, requests: readonly InjectOptions[]) {
    const counted: Record<number, number> = {}
    for (const request of requests) {
      const { statusCode } = await app.inject(request)
      counted[statusCode] = (counted[statusCode] ?? 0) + 1
    }
    return counted
  }
  const times = (count: number, request: InjectOptions) => Array.from({ length: count }, () => request)

  test('are refused after twenty from one address, which the right one never is', async () => {
    const app = open()
    const counted = await guess(app, times(40, sync(WRONG)))
    expect(counted[401]).toBeGreaterThanOrEqual(20)
    expect(counted[429]).toBeGreaterThan(0)
    expect((await app.inject(sync(RIGHT))).statusCode).toBe(202)
    expect((await app.inject(sync(WRONG, '192.0.2.2'))).statusCode).toBe(401)
  })

  const from = (client: string) => sync({ ...WRONG, 'x-forwarded-for': client }, '10.0.0.1')

  test('are counted by the address that a trusted proxy names', async () => {
    const app = open({ trustedProxies: ['10.0.0.0/8'] })
    expect((await guess(app, times(40, from('192.0.2.1'))))[429]).toBeGreaterThan(0)
    expect((await app.inject(from('192.0.2.2'))).statusCode).toBe(401)
  })

  test('are counted by their own address whatever a stranger claims', async () => {
    const app = open()
    const claims = Array.from({ length: 40 }, (_, n) => from(`192.0.2.${n}`))
    expect((await guess(app, claims))[429]).toBeGreaterThan(0)
  })
})
