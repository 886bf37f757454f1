import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Pool } from 'pg'
import { expect, test } from 'vitest'
import { migrate } from '../../../src/store/migrations/migrate.ts'
import { createTestDatabase } from '../../helpers/database.ts'
import { createOperator } from '../../helpers/operations/operator.ts'
import { expectTruth, setStage } from '../../helpers/operations/stage.ts'
import { untilSynced } from '../../helpers/synced.ts'

const MIGRATIONS = fileURLToPath(new URL('../../../prisma/migrations', import.meta.url))

/** A folder with the first migration alone: the tables of the first version. */
async function firstMigration(stack: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'first-migration-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const [first = ''] = (await readdir(MIGRATIONS)).toSorted()
  for (const name of [first, 'migration_lock.toml']) {
    await cp(join(MIGRATIONS, name), join(folder, name), { recursive: true })
  }
  return folder
}

type Columns = Map<string, string[]>

/** The columns of each table, tables that others refer to first. */
async function columnsOf(pool: Pool): Promise<Columns> {
  const { rows } = await pool.query<{ name: string; columns: string[] }>(`
    SELECT relname AS name, array_agg(attname::text ORDER BY attnum) AS columns
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = 'kommo'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    GROUP BY pg_class.oid, relname ORDER BY pg_class.oid`)
  return new Map(rows.map(({ name, columns }) => [name, columns]))
}

/** These columns of every row, as text. */
async function contentOf(pool: Pool, columns: Columns): Promise<Map<string, string[]>> {
  const content = new Map<string, string[]>()
  for (const [name, names] of columns) {
    const { rows } = await pool.query<{ row: string }>(
      `SELECT to_jsonb(t)::text AS row FROM (SELECT ${names.join(', ')} FROM kommo.${name}) AS t ORDER BY 1`,
    )
    content.set(
      name,
      rows.map(({ row }) => row),
    )
  }
  return content
}

test('tables of the first version, with data in them, are brought up to date by the documented command: nothing is lost, and the service goes on with them', async () => {
  await using stack = new AsyncDisposableStack()
  const stage = await setStage(stack)
  const today = await createTestDatabase()
  stack.defer(() => today.drop())
  const upgraded = await createTestDatabase({ empty: true })
  stack.defer(() => upgraded.drop())

  // Data as the service makes them, without what the first version had no columns for.
  const chats = stage.addChats(8)
  const service = await stage.start({ DATABASE_URL: today.url })
  await stage.tell(service.url, chats.slice(0, 6))
  await untilSynced(today.pool)
  await service.stop()
  await migrate(upgraded.url, { migrationsDir: await firstMigration(stack) })
  const columns = await columnsOf(upgraded.pool)
  const data = await contentOf(today.pool, columns)
  for (const [name, rows] of data) {
    const names = columns.get(name)?.join(', ') ?? ''
    await upgraded.pool.query(
      `INSERT INTO kommo.${name} (${names})
       SELECT ${names} FROM unnest($1::text[]) AS given, jsonb_populate_record(NULL::kommo.${name}, given::jsonb)`,
      [rows],
    )
  }
  await upgraded.pool.query(
    `SELECT setval('kommo.webhook_events_id_seq', (SELECT max(id) FROM kommo.webhook_events))`,
  )
  expect(await contentOf(upgraded.pool, columns)).toEqual(data)
  expect(data.get('messages')?.length).toBeGreaterThan(400)

  const operator = stack.use(await createOperator({ DATABASE_URL: upgraded.url }))
  const applied = await operator.run('upgrade')
  const others = (await readdir(MIGRATIONS))
    .filter((name) => /^\d/.test(name))
    .toSorted()
    .slice(1)
  expect(others.filter((name) => !applied.includes(name))).toEqual([])
  expect(await contentOf(upgraded.pool, columns)).toEqual(data)
  expect(await columnsOf(upgraded.pool)).toEqual(await columnsOf(today.pool))

  for (const chat of chats) await chat.managerWrites('After the upgrade')
  const next = await stage.start({ DATABASE_URL: upgraded.url })
  await stage.tell(next.url, chats)
  await untilSynced(upgraded.pool)
  await expectTruth(upgraded.pool, stage.kommo)
  await next.stop()
})

test('a migration that something is in the way of leaves the tables as they were, and is tried again by the documented command', async () => {
  await using stack = new AsyncDisposableStack()
  const database = await createTestDatabase({ empty: true })
  stack.defer(() => database.drop())
  await migrate(database.url, { migrationsDir: await firstMigration(stack) })
  const before = await columnsOf(database.pool)
  await database.pool.query('CREATE VIEW kommo.conversation_clients AS SELECT 1 AS made_by_hand')
  const operator = stack.use(await createOperator({ DATABASE_URL: database.url }))

  const failed = /_sql_product failed.*conversation_clients.*already exists.*migrate --again/s
  await expect(operator.run('upgrade')).rejects.toThrow(failed)
  await expect(operator.run('upgrade')).rejects.toThrow(/_sql_product failed earlier/)
  // What came before it was applied whole, of itself nothing.
  expect([...(await columnsOf(database.pool)).keys()]).not.toContain('reaction_states')
  await expect(operator.run('migrate-again')).rejects.toThrow(failed)

  await database.pool.query('DROP VIEW kommo.conversation_clients')
  expect(await operator.run('migrate-again')).toContain('_sql_product')
  expect((await columnsOf(database.pool)).size).toBeGreaterThan(before.size)
  expect(await operator.run('upgrade')).toContain('up to date')
})
