import type { Logger } from 'pino'

/** Where a command's facts go, and in which form. */
export interface Output {
  log: Logger
  out: { write(text: string): unknown }
  /** One JSON document for a script, instead of text laid out for a person. */
  json: boolean
}

export function printJson({ out }: Output, facts: unknown): void {
  const text = JSON.stringify(
    facts,
    (_key, value: unknown) => (typeof value === 'bigint' ? Number(value) : value),
    2,
  )
  out.write(`${text}\n`)
}

/** Rows under a heading, columns aligned; numbers to the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, String(cell).length)
    }
  }
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          typeof cell === 'number'
            ? String(cell).padStart(widths[column] ?? 0)
            : cell.padEnd(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `  ${line}\n`)
    .join('')
}
