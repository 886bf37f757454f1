/** `SOAK=1` runs the long forms, which take minutes; any other number is a size of its own where a test knows one. */
export const SOAK = Number(process.env['SOAK'] ?? 0)

/** What a long form has measured, as one line of JSON. */
export function showFigures(figures: Record<string, unknown>): void {
  if (SOAK > 0) process.stdout.write(`${JSON.stringify(figures)}\n`)
}
