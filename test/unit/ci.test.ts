import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROOT } from '../helpers/tool.ts'

const WORKFLOW = readFileSync(`${ROOT}/.github/workflows/ci.yml`, 'utf8')
const CONTRIBUTING = readFileSync(`${ROOT}/CONTRIBUTING.md`, 'utf8')

test('every action is pinned by its commit, with the version beside it, and one action has one commit', () => {
  const used = [...WORKFLOW.matchAll(/uses: (\S+?)@(.*)$/gm)].map(([, name = '', pin = '']) => ({
    name,
    pin,
  }))
  expect(used.length).toBeGreaterThan(10)
  expect(used.filter(({ pin }) => !/^[\da-f]{40} # v\d+\.\d+\.\d+$/.test(pin))).toEqual([])
  expect(new Set(used.map(({ name, pin }) => name + pin)).size).toBe(
    new Set(used.map(({ name }) => name)).size,
  )
})

test('only the job that publishes may write, and no checkout leaves its token behind', () => {
  expect(WORKFLOW).toMatch(/^permissions:\n {2}contents: read\n\n/m)
  expect(WORKFLOW.match(/: write$/gm)).toHaveLength(2)
  expect(WORKFLOW.slice(0, WORKFLOW.indexOf('\n  image:'))).not.toMatch(/: write$/m)
  const checkouts = WORKFLOW.match(/actions\/checkout@/g)
  expect(WORKFLOW.match(/persist-credentials: false/g)).toHaveLength(checkouts?.length ?? 0)
})

test('the files that CONTRIBUTING.md sends one to are there', () => {
  const named = [...CONTRIBUTING.matchAll(/`((?:src|test|prisma|deploy)\/[\w./-]+)`/g)].map(
    ([, path = '']) => path,
  )
  expect(named.length).toBeGreaterThan(15)
  expect(named.filter((path) => !path.includes('TIME_') && !existsSync(`${ROOT}/${path}`))).toEqual([])
})
