import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { createMetrics } from '../../../src/metrics.ts'
import { addHealthMetrics } from '../../../src/services/health-metrics.ts'
import { ALERTS, ALERT_TESTS, DASHBOARD, DATA_SOURCE, QUERIES } from '../../helpers/observability.ts'
import { ROOT } from '../../helpers/tool.ts'

/** What Prometheus itself adds: metrics, and labels of whatever it scrapes. */
const OF_PROMETHEUS = new Set(['ALERTS', 'up'])
const TARGET_LABELS = ['job', 'instance', 'service']

const { registry } = createMetrics()
addHealthMetrics({
  registry,
  channelIds: [],
  read: () => Promise.reject(new Error('only the names are looked at')),
})
const known = new Map(
  z
    .array(z.looseObject({ name: z.string(), type: z.string(), labelNames: z.array(z.string()).default([]) }))
    .parse(registry.getMetricsAsArray())
    .flatMap(({ name, type, labelNames }) => {
      const names = type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name]
      return names.map((each) => [each, [...labelNames, ...TARGET_LABELS, 'le']] as const)
    }),
)

const rules = [...ALERTS.matchAll(/- alert: (\w+)\n(.*?)(?=\n\n|\n {6}- alert|$)/gs)].map(
  ([, name = '', body = '']) => ({
    name,
    expr: /expr: (.*?)\n {8}(?:for|labels):/s.exec(body)?.[1] ?? '',
    body,
  }),
)
const expressions = [...rules.map(({ name, expr }) => ({ title: name, expr })), ...QUERIES]

/** Each series that an expression asks for: `name{matchers}`. */
function selectorsIn(
  expr: string,
): { name: string; labels: { name: string; is: string; value: string }[] }[] {
  return [...expr.matchAll(/\b((?:kommo_sync|process|nodejs)_\w+|ALERTS|up)\b(?:\{([^}]*)\})?/g)].map(
    ([, name = '', matchers = '']) => ({
      name,
      labels: [...matchers.matchAll(/(\w+)(=~|!~|!=|=)"([^"]*)"/g)].map(
        ([, label = '', is = '', value = '']) => ({
          name: label,
          is,
          value,
        }),
      ),
    }),
  )
}

test('there are rules and panels to look at', () => {
  expect(rules.length).toBeGreaterThan(10)
  expect(rules.filter(({ expr }) => selectorsIn(expr).length === 0)).toEqual([])
  expect(QUERIES.length).toBeGreaterThan(20)
  expect(QUERIES.filter(({ expr }) => selectorsIn(expr).length === 0)).toEqual([])
})

test('every metric that an alert or a panel names is one that the service gives', () => {
  const named = new Set(expressions.flatMap(({ expr }) => selectorsIn(expr).map(({ name }) => name)))
  expect([...named].filter((name) => !known.has(name) && !OF_PROMETHEUS.has(name))).toEqual([])
})

test('every label that they select by or join over is one that the metric has', () => {
  const strange = expressions.flatMap(({ title, expr }) => {
    const grouped = [...expr.matchAll(/\bby \(([\w, ]+)\)/g)].flatMap(([, list = '']) => list.split(', '))
    return selectorsIn(expr).flatMap(({ name, labels }) => {
      const has = known.get(name)
      if (has === undefined) return []
      return [...labels.map((label) => label.name), ...grouped]
        .filter((label) => !has.includes(label))
        .map((label) => `${title}: ${name} has no ${label}`)
    })
  })
  expect(strange).toEqual([])
})

// `increase` sees no step from nothing to 1: the first lost webhook of a process would wake nobody.
test('every counter that an alert waits for is there from the start, at 0', async () => {
  const lines = await registry.metrics()
  const missing = rules.flatMap(({ expr }) =>
    selectorsIn(expr)
      .filter(({ name }) => name.endsWith('_total') && known.has(name))
      .flatMap(({ name, labels }) => {
        const pairs = labels.filter(({ is }) => is === '=').map((label) => `${label.name}="${label.value}"`)
        return pairs.every((pair) => new RegExp(`^${name}\\{[^}]*${pair}[^}]*\\} 0$`, 'm').test(lines))
          ? []
          : [`${name}{${pairs.join(',')}}`]
      }),
  )
  expect([...new Set(missing)]).toEqual([])
})

describe('an alert', () => {
  test.for(rules)(
    '$name says how bad it is, what happened, what to do, and where that is explained',
    ({ name, body }) => {
      expect(body).toMatch(/labels: \{ severity: (critical|warning) \}/)
      expect(body).toMatch(/summary: /)
      expect(body).toMatch(/description: /)
      expect(body.trimEnd().split('\n').at(-1)?.trim()).toBe(`runbook_url: docs/operations.md#${kebab(name)}`)
    },
  )

  test.for(rules)('$name has a test in which it fires and one in which it keeps quiet', ({ name }) => {
    const checks = ALERT_TESTS.flatMap(({ text }) => text.split('- expr: ')).filter((check) =>
      check.includes(`alertname="${name}"`),
    )
    const fires = checks.filter((check) => check.includes('exp_samples'))
    expect(fires).not.toEqual([])
    expect(checks.length).toBeGreaterThan(fires.length)
  })

  test('has its section in docs/operations.md', ({ skip }) => {
    const path = `${ROOT}/docs/operations.md`
    skip(!existsSync(path), 'docs/operations.md is not written yet')
    const anchors = new Set(
      [...readFileSync(path, 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
        heading
          .toLowerCase()
          .replaceAll(/[^\w -]/g, '')
          .replaceAll(' ', '-'),
      ),
    )
    expect(rules.map(({ name }) => kebab(name)).filter((anchor) => !anchors.has(anchor))).toEqual([])
  })

  test('of a full spool knows the size that the service allows', () => {
    const limit = /mostBytes: (\d+) \* MIB/.exec(readFileSync(`${ROOT}/src/services/inbox.ts`, 'utf8'))?.[1]
    expect(ALERTS).toContain(`kommo_sync_spool_bytes) > 0.8 * ${limit} * 1024 * 1024`)
  })
})

describe('the dashboard', () => {
  test('asks the data source that is provisioned', () => {
    const uid = /^ +uid: (\w+)$/m.exec(DATA_SOURCE)?.[1]
    const asked = DASHBOARD.panels.flatMap(({ targets }) => targets.map(({ datasource }) => datasource))
    expect(asked.filter((source) => source.uid !== uid || source.type !== 'prometheus')).toEqual([])
  })

  test('has panels that do not lie on each other, each with its own id', () => {
    const { panels } = DASHBOARD
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const taken = new Map<string, string>()
    for (const { title, gridPos } of panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.get(`${x},${y}`), `${title} at ${x},${y}`).toBeUndefined()
          taken.set(`${x},${y}`, title)
        }
      }
    }
  })
})

function kebab(name: string): string {
  return name.replaceAll(/(?<=.)(?=[A-Z])/g, '-').toLowerCase()
}
