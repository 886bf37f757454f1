import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createTestDatabase } from '../../helpers/database.ts'
import { ALERT_TESTS, QUERIES } from '../../helpers/observability.ts'
import { startService } from '../../helpers/service.ts'
import { findTool } from '../../helpers/tool.ts'

const promtool = await findTool('promtool', 'prometheus')

test('Prometheus accepts its configuration and the alert rules', async (context) => {
  const said = await promtool(context, ['check', 'config', 'deploy/observability/prometheus/prometheus.yml'])
  expect(said).toMatch(/SUCCESS: \d+ rules found/)
})

test('the alerts fire when they should, and only then', { timeout: 180_000 }, async (context) => {
  const said = await promtool(context, ['test', 'rules', ...ALERT_TESTS.map(({ path }) => path)])
  expect(said.match(/SUCCESS/g)).toHaveLength(ALERT_TESTS.length)
})

test('Prometheus understands every question of the dashboard', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'dashboard-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'rules.yml')
  // JSON is YAML; each question becomes the expression of a rule.
  const rules = QUERIES.map(({ expr }, number) => ({ record: `question:${number}`, expr }))
  writeFileSync(path, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
  expect(await promtool(context, ['check', 'rules', path])).toContain(
    `SUCCESS: ${QUERIES.length} rules found`,
  )
})

test('the metrics of the service follow the format and the conventions of Prometheus', async (context) => {
  await using stack = new AsyncDisposableStack()
  const database = await createTestDatabase()
  stack.defer(() => database.drop())
  const service = stack.use(
    await startService({
      DATABASE_URL: database.url,
      KOMMO_CHANNEL_ID: 'f62a0162-46a7-430e-b06c-0ef798d76a21',
      KOMMO_CHANNEL_SECRET: 'the-secret',
      KOMMO_BASE_URL: 'http://127.0.0.1:1',
    }),
  )
  const input = await (await fetch(`${service.url}/metrics`)).text()
  expect(input).toContain('kommo_sync_webhooks_accepted_total')
  await expect(promtool(context, ['check', 'metrics'], { input })).resolves.toBe('')
})
