import type { Reporter, TestModule } from 'vitest/node'

/** Ends a run with one plain line that scripts can read: `N passed, N failed`. */
export class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0, pending: 0 }
    for (const module of modules) {
      const failedBefore = count.failed
      for (const test of module.children.allTests()) count[test.result().state] += 1
      // A file that could not be loaded, or prepared, has no test that failed.
      if (module.state() === 'failed' && count.failed === failedBefore) count.failed += 1
    }
    const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : ''
    process.stdout.write(`\n${count.passed} passed, ${count.failed + count.pending} failed${skipped}\n`)
  }
}
