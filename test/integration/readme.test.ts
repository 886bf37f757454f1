import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { VARIABLES } from '../../src/config.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
const QUERIES = [...README.matchAll(/```sql\n(.*?)```/gs)].map(([, sql]) => sql ?? '')

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

test('the README has five queries', () => {
  expect(QUERIES).toHaveLength(5)
})

test.each(QUERIES)('the query runs: %s', async (sql) => {
  await expect(database.pool.query(sql)).resolves.toMatchObject({ rows: [] })
})

test('the README names every variable', () => {
  expect(VARIABLES.filter((name) => !README.includes(`\`${name}\``))).toEqual([])
})

test('every npm script that the README uses exists', () => {
  const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    scripts: Record<string, string>
  }
  const used = [...README.matchAll(/npm (?:run (?:-s )?)?(cli|demo|start|test|test:unit|dev)\b/g)].map(
    ([, name]) => name,
  )
  expect(used.filter((name) => name === undefined || !(name in scripts))).toEqual([])
})
