import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { ROOT } from './tool.ts'

const FOLDER = `${ROOT}/deploy/observability`

export const ALERTS = readFileSync(`${FOLDER}/prometheus/alerts.yml`, 'utf8')
export const ALERT_TESTS = ['alerts.test.yml', 'alerts.week.test.yml'].map((name) => ({
  path: `${FOLDER}/prometheus/${name}`,
  text: readFileSync(`${FOLDER}/prometheus/${name}`, 'utf8'),
}))

const target = z.looseObject({
  expr: z.string(),
  datasource: z.object({ type: z.string(), uid: z.string() }),
})
const panel = z.looseObject({
  id: z.number(),
  type: z.string(),
  title: z.string().min(1),
  gridPos: z.object({ x: z.number(), y: z.number(), w: z.number(), h: z.number() }),
  targets: z.array(target).default([]),
})
export const DASHBOARD = z
  .looseObject({ uid: z.string(), panels: z.array(panel) })
  .parse(JSON.parse(readFileSync(`${FOLDER}/grafana/dashboards/kommo-sync.json`, 'utf8')))

/** Every question that the dashboard asks Prometheus, with what Grafana puts in for its own words. */
export const QUERIES = DASHBOARD.panels.flatMap(({ title, targets }) =>
  targets.map(({ expr }) => ({ title, expr: expr.replaceAll('$__rate_interval', '1m') })),
)

export const DATA_SOURCE = readFileSync(`${FOLDER}/grafana/provisioning/datasources/prometheus.yml`, 'utf8')
