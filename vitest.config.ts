import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'
import { ClosingLine } from './test/helpers/closing-line.ts'

/**
 * Half of a run is waiting, so that two files beside each other gain much also where there are two cores. The long
 * forms hold exact figures, and have the machine for themselves.
 */
const maxWorkers = process.env['SOAK'] === undefined ? Math.max(2, availableParallelism() - 1) : 1

const project = (name: string, timeout: number, globalSetup: string[] = []) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeout,
    hookTimeout: timeout,
    globalSetup,
    maxWorkers,
    // Real processes, signals and clocks on whatever machine CI has: twice more there, and never silently (vitest says so).
    retry: name !== 'unit' && process.env['CI'] !== undefined ? 2 : 0,
  },
})

const withDatabase = ['test/helpers/database-server.ts']

export default defineConfig({
  test: {
    reporters: ['default', new ClosingLine()],
    projects: [
      project('unit', 30_000),
      project('integration', 120_000, withDatabase),
      project('e2e', 300_000, withDatabase),
    ],
  },
})
