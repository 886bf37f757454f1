import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { beforeAll, expect, inject, test } from 'vitest'
import { z } from 'zod'
import { benches } from '../../bench/benches.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const report = z.object({
  machine: z.object({ postgres: z.string().min(1) }),
  outcomes: z.array(
    z.object({
      name: z.string(),
      figures: z.array(z.object({ name: z.string(), median: z.number().finite() })).min(1),
      answers: z
        .array(z.object({ measured: z.object({ median: z.number().finite() }), met: z.boolean() }))
        .min(1),
    }),
  ),
})

async function runBench(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ['bench/main.ts', ...args], { cwd: ROOT })
  return stdout
}

let outcomes: z.infer<typeof report>['outcomes']

beforeAll(async () => {
  // All in one process: most of what a short run takes is its start.
  const stdout = await runBench('--smoke', '--json', '--server', inject('databaseServer').url)
  outcomes = report.parse(JSON.parse(stdout)).outcomes
})

test.for(benches.map(({ name }) => name))('the bench %s measures what it asks', (name) => {
  expect(outcomes.filter((outcome) => outcome.name === name)).toHaveLength(1)
})

test('a bench that does not exist is refused with those that do', async () => {
  await expect(runBench('no-such-bench')).rejects.toMatchObject({
    code: 2,
    stdout: expect.stringContaining('receive-throughput'),
  })
})
