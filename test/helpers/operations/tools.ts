import { execFileSync } from 'node:child_process'

/** The version that a program tells, `null` where it is not installed. */
export function versionOf(program: string, flag = '--version'): string | null {
  try {
    // Some tell it on standard error.
    const text = execFileSync('sh', ['-c', `${program} ${flag} 2>&1`], { encoding: 'utf8' })
    return /\d+(\.\d+)*/.exec(text)?.[0] ?? null
  } catch {
    return null
  }
}

export function majorOf(version: string): number {
  return Number.parseInt(version, 10)
}

/** For a test's title: what it would have needed. */
export function orSkipped(...programs: (readonly [name: string, version: string | null])[]): string {
  return programs
    .map(([name, version]) => (version === null ? `${name} (skipped: not installed)` : `${name} ${version}`))
    .join(', ')
}
