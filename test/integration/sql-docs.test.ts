import { readFile } from 'node:fs/promises'
import { format, resolveConfig } from 'prettier'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import {
  queriesIn,
  readSchema,
  renderColumns,
  renderDiagram,
  renderSources,
  runQuery,
  withGenerated,
  withResults,
} from '../helpers/sql-docs.ts'

const FIXTURE = new URL('../fixtures/cookbook.sql', import.meta.url)
const DOCUMENT = new URL('../../docs/sql.md', import.meta.url)
const SOURCES = new URL('../../docs/dbt/sources.yml', import.meta.url)

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
  await database.pool.query(await readFile(FIXTURE, 'utf8'))
})
afterAll(() => database.drop())

async function pretty(text: string, path: URL): Promise<string> {
  return format(text, { ...(await resolveConfig(path)), filepath: path.pathname })
}

test('docs/sql.md has twenty queries', async () => {
  expect(queriesIn(await readFile(DOCUMENT, 'utf8'))).toHaveLength(20)
})

test('docs/sql.md shows what its queries give, every table and every column (vitest -u writes them)', async () => {
  const document = await readFile(DOCUMENT, 'utf8')
  const relations = await readSchema(database.pool)
  const results: string[] = []
  for (const { sql } of queriesIn(document)) results.push(await runQuery(database.pool, sql))
  const current = [
    (text: string) => withResults(text, results),
    (text: string) => withGenerated(text, 'diagram', renderDiagram(relations)),
    (text: string) => withGenerated(text, 'columns', renderColumns(relations)),
  ].reduce((text, write) => write(text), document)
  await expect(await pretty(current, DOCUMENT)).toMatchFileSnapshot(DOCUMENT.pathname)
})

test('docs/dbt/sources.yml names every table, view and column (vitest -u writes it)', async () => {
  const sources = renderSources(await readSchema(database.pool))
  await expect(await pretty(sources, SOURCES)).toMatchFileSnapshot(SOURCES.pathname)
})
