import { defineConfig } from 'vitest/config'
import { ClosingLine } from './test/helpers/closing-line.ts'

const project = (name: string, timeout: number, globalSetup: string[] = []) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeout,
    hookTimeout: timeout,
    globalSetup,
    // Real processes, signals and clocks on whatever machine CI has: once more there, and never silently (vitest says so).
    retry: name === 'e2e' && process.env['CI'] !== undefined ? 1 : 0,
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
