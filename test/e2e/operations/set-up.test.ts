import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type SimulatedKommo, startSimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { type Operator, createOperator } from '../../helpers/operations/operator.ts'
import { CADDY, NGINX, startCaddy, startNginx } from '../../helpers/operations/proxy.ts'
import { orSkipped, versionOf } from '../../helpers/operations/tools.ts'
import { freePort } from '../../helpers/free-port.ts'
import { type RunningService, startService } from '../../helpers/service.ts'

const CURL = versionOf('curl')
const OPENSSL = versionOf('openssl', 'version')
const hasTools = CURL !== null && OPENSSL !== null

let kommo: SimulatedKommo
let database: TestDatabase
let operator: Operator
let settings: Record<string, string>

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  settings = {
    DATABASE_URL: database.url,
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
  }
  operator = await createOperator({ ...settings, AMOJO_ID: kommo.accountId })
})
afterAll(async () => {
  await operator?.[Symbol.asyncDispose]()
  await kommo?.close()
  await database?.drop()
})

test.skipIf(!hasTools)(
  `the documented request connects the channel, and doctor finds all well; with ${orSkipped(['curl', CURL], ['openssl', OPENSSL])}`,
  async () => {
    expect(JSON.parse(await operator.run('connect'))).toMatchObject({
      scope_id: kommo.scopeId,
      hook_api_version: 'v2',
    })
    expect(await operator.run('doctor')).toContain('Kommo accepts the secret')
  },
)

describe('a signed webhook through TLS is stored, and nothing else is let through', () => {
  let port: number
  let service: RunningService

  beforeAll(async () => {
    port = await freePort()
    service = await startService({ ...settings, PORT: String(port), ADMIN_TOKEN: 'invented-admin-token' })
  })
  afterAll(async () => {
    await service?.stop()
  })

  const proxies = [
    { name: 'nginx', version: NGINX, start: (ports: [number, number]) => startNginx(ports, { tls: true }) },
    { name: 'caddy', version: CADDY, start: startCaddy },
  ]
  for (const { name, version, start } of proxies) {
    test.skipIf(version === null || !hasTools)(`behind ${orSkipped([name, version])}`, async () => {
      // Nobody is on the second port: the other one is tried.
      await using proxy = await start([port, await freePort()])
      const trust = { CURL_CA_BUNDLE: proxy.certificate ?? '' }
      const before = await stored()
      for (let sent = 0; sent < 6; sent += 1) {
        const answer = await operator.run('try-webhook', trust, { 'https://chats.example.com': proxy.url })
        expect(JSON.parse(answer)).toEqual({ status: 'accepted' })
      }
      expect((await stored()) - before).toBe(6)
      for (const path of ['metrics', 'readyz', 'healthz', 'conversations/x/sync', '']) {
        expect(await statusOf(`${proxy.url}/${path}`, proxy.certificate ?? '')).toBe('404')
      }
    })
  }

  async function statusOf(url: string, certificate: string): Promise<string> {
    const args = [
      '--silent',
      '--output',
      '/dev/null',
      '--write-out',
      '%{http_code}',
      '--cacert',
      certificate,
      url,
    ]
    return (await promisify(execFile)('curl', args)).stdout
  }

  async function stored(): Promise<number> {
    const { rows } = await database.pool.query<{ n: number }>(
      "SELECT count(*)::int AS n FROM kommo.webhook_events WHERE kind = 'unknown'",
    )
    return rows[0]?.n ?? 0
  }
})
