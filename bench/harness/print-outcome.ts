import { type Answer, type Bench, type Outcome, isMet } from './bench.ts'
import type { Machine } from './machine.ts'
import type { Figure } from './rounds.ts'

export function describeRun(machine: Machine): string {
  const { cores, processor, memoryGiB, kernel, node, postgres, postgresSettings, packages, load, at } =
    machine
  return [
    `${at}, ${cores} cores ${processor}, ${memoryGiB} GiB, Linux ${kernel}, load ${load.toFixed(1)} at the start`,
    `Node ${node}, ${packages}`,
    `PostgreSQL ${postgres}: ${postgresSettings}`,
  ].join('\n')
}

export function describeOutcome({ name, question }: Bench, outcome: Outcome): string {
  const settings = Object.entries(outcome.settings).map(([key, value]) => `${key} ${value}`)
  return [
    `\n${name}: ${question}`,
    `  ${settings.join(', ')}\n`,
    table([
      ['measured', 'median', 'least', 'most', 'unit'],
      ...outcome.figures.map((one) => [one.name, ...spread(one), one.unit]),
    ]),
    '',
    table([
      ['question', 'asked', 'median', 'least', 'most', ''],
      ...outcome.answers.map((answer) => [
        answer.question,
        bound(answer),
        ...spread(answer.measured),
        isMet(answer) ? 'met' : 'NOT MET',
      ]),
    ]),
    ...(outcome.notes ?? []).map((note) => `  ${note}`),
  ].join('\n')
}

function bound({ asked }: Answer): string {
  return 'least' in asked ? `≥ ${round(asked.least)}` : `≤ ${round(asked.most)}`
}

function spread({ median, least, most }: Figure): string[] {
  return [round(median), round(least), round(most)]
}

function round(value: number): string {
  if (!Number.isFinite(value)) return '—'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en')
  return String(Number(value.toPrecision(3)))
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows
    .map((row) => {
      const cells = row.map((cell, column) => {
        const isNumber = /^[≤≥ \d.,—-]+$/.test(cell)
        const width = widths[column] ?? 0
        return isNumber ? cell.padStart(width) : cell.padEnd(width)
      })
      return `  ${cells.join('  ').trimEnd()}`
    })
    .join('\n')
}
