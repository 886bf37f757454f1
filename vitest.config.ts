import { defineConfig } from 'vitest/config'

const project = (name: string, timeout: number, globalSetup: string[] = []) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeout,
    hookTimeout: timeout,
    globalSetup,
  },
})

const withDatabase = ['test/helpers/database-server.ts']

export default defineConfig({
  test: {
    projects: [
      project('unit', 10_000),
      project('integration', 60_000, withDatabase),
      project('e2e', 300_000, withDatabase),
    ],
  },
})
