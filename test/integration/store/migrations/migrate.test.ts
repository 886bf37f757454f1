import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client, type Pool } from 'pg'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { migrateInTheEnd } from '../../../../src/store/migrations/migrate-in-the-end.ts'
import { migrate, pendingMigrations } from '../../../../src/store/migrations/migrate.ts'
import { createTestDatabase, type TestDatabase } from '../../../helpers/database.ts'
import { SOON } from '../../../helpers/soon.ts'

const run = promisify(execFile)
const MIGRATIONS = fileURLToPath(new URL('../../../../prisma/migrations', import.meta.url))
const PROCESS = fileURLToPath(new URL('../../../helpers/migrate-process.ts', import.meta.url))

let database: TestDatabase
let names: string[]

beforeEach(async () => {
  const entries = await readdir(MIGRATIONS, { withFileTypes: true })
  names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  database = await createTestDatabase({ empty: true })
})

afterEach(() => database.drop())

interface Row {
  migration_name: string
  checksum: string
  logs: string | null
  finished: boolean
  rolled_back_at: Date | null
  applied_steps_count: number
}

async function recorded(pool: Pool): Promise<Row[]> {
  const { rows } = await pool.query<Row>(
    `SELECT migration_name, checksum, logs, finished_at IS NOT NULL AS finished, rolled_back_at, applied_steps_count
       FROM _prisma_migrations ORDER BY started_at`,
  )
  return rows
}

test('an empty database gets every migration, once, recorded as Prisma records them', async () => {
  expect(await pendingMigrations(database.pool)).toEqual(names)
  expect(await migrate(database.url)).toEqual({ applied: names })
  expect(await pendingMigrations(database.pool)).toEqual([])
  expect(await migrate(database.url)).toEqual({ applied: [] })

  const expected = names.map(async (name) => ({
    migration_name: name,
    checksum: createHash('sha256')
      .update(await readFile(join(MIGRATIONS, name, 'migration.sql')))
      .digest('hex'),
    logs: null,
    finished: true,
    rolled_back_at: null,
    applied_steps_count: 1,
  }))
  expect(await recorded(database.pool)).toEqual(await Promise.all(expected))
})

test('three processes that migrate an empty database at once all succeed, and one does the work', async () => {
  const outputs = await Promise.all([1, 2, 3].map(() => run(process.execPath, [PROCESS, database.url])))
  expect(outputs.map(({ stderr }) => stderr)).toEqual(['', '', ''])
  const applied = outputs.flatMap(({ stdout }) => JSON.parse(stdout).applied)
  expect(applied).toEqual(names)
  expect(await recorded(database.pool)).toHaveLength(names.length)
})

test('a migration that fails leaves nothing behind, says so, and stops later starts until it is tried again', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'kommo-sync-migrations-'))
  const bad = '29990101000000_bad'
  await cp(MIGRATIONS, dir, { recursive: true })
  await mkdir(join(dir, bad))
  await writeFile(
    join(dir, bad, 'migration.sql'),
    `CREATE TABLE kommo.half (note text DEFAULT 'a; b');\nALTER TABLE kommo.nowhere ADD COLUMN x text;\n`,
  )
  try {
    await expect(migrate(database.url, { migrationsDir: dir })).rejects.toMatchObject({
      name: 'MigrationError',
      code: 'migration',
      retryable: false,
      message: expect.stringMatching(/29990101000000_bad.*kommo\.nowhere.*migrate --again/s),
    })
    expect((await database.pool.query(`SELECT to_regclass('kommo.half') AS half`)).rows).toEqual([
      { half: null },
    ])
    expect(await recorded(database.pool)).toMatchObject([
      ...names.map((name) => ({ migration_name: name, finished: true })),
      { migration_name: bad, finished: false, logs: expect.stringContaining('nowhere') },
    ])
    await expect(migrate(database.url, { migrationsDir: dir })).rejects.toThrow(
      /Migration 29990101000000_bad failed earlier/,
    )
    // Not for a version of the code that does not know it: an older receiver has to be able to start.
    expect(await migrate(database.url)).toEqual({ applied: [] })

    await expect(migrate(database.url, { again: true })).rejects.toThrow(
      /29990101000000_bad failed and is not known to this version/,
    )

    const again = { migrationsDir: dir, again: true }
    await expect(migrate(database.url, again)).rejects.toThrow(/Migration 29990101000000_bad failed, nothing/)
    await writeFile(join(dir, bad, 'migration.sql'), `CREATE TABLE kommo.half (note text DEFAULT 'a; b');\n`)
    expect(await migrate(database.url, again)).toEqual({ applied: [bad] })
    expect(await migrate(database.url, { migrationsDir: dir })).toEqual({ applied: [] })
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

test('a migration whose process is killed ends with it, and is applied when it is tried again', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'kommo-sync-migrations-'))
  const slow = '29990101000000_slow'
  const script = (wait: string) => `CREATE TABLE kommo.late (note text);\n${wait}\n`
  try {
    await cp(MIGRATIONS, dir, { recursive: true })
    await mkdir(join(dir, slow))
    await writeFile(join(dir, slow, 'migration.sql'), script('SELECT pg_sleep(600);'))
    const migrating = spawn(process.execPath, [PROCESS, database.url, dir], { stdio: 'ignore' })
    const sleeping = async () => {
      const { rows } = await database.pool.query(
        `SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()`,
      )
      return rows.length
    }
    await vi.waitFor(async () => expect(await sleeping()).toBe(1), SOON)
    migrating.kill('SIGKILL')
    await vi.waitFor(async () => expect(await sleeping()).toBe(0), SOON)

    await writeFile(join(dir, slow, 'migration.sql'), script(''))
    await expect(migrate(database.url, { migrationsDir: dir })).rejects.toThrow(/_slow failed earlier/)
    expect(await migrate(database.url, { migrationsDir: dir, again: true })).toEqual({ applied: [slow] })
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

test('a file that changed after it was applied, and a migration of newer code, are reported', async () => {
  await migrate(database.url)
  await database.pool.query(`UPDATE _prisma_migrations SET checksum = 'other'`)
  await database.pool.query(
    `INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('1', 'x', '2999_newer', now())`,
  )
  const warned: unknown[] = []
  await migrate(database.url, { log: { info() {}, warn: (fields: unknown) => warned.push(fields) } })
  expect(warned).toEqual([...names.map((migration) => ({ migration })), { migration: '2999_newer' }])
})

test.each([
  ['another replica', 5_066_624_218_001],
  ['the Prisma CLI', 72_707_369],
])('who waits for %s to migrate gives up after a bounded time, or when told to', async (_holder, key) => {
  const holder = new Client({ connectionString: database.url })
  await holder.connect()
  try {
    await holder.query('SELECT pg_advisory_lock($1)', [key])
    await expect(migrate(database.url, { lockWaitMs: 50 })).rejects.toMatchObject({
      code: 'migration',
      retryable: true,
    })
    const stop = new AbortController()
    const waiting = migrate(database.url, { signal: stop.signal })
    stop.abort(new Error('told to stop'))
    await expect(waiting).rejects.toThrow('told to stop')
  } finally {
    await holder.end()
  }
  expect(await migrate(database.url)).toEqual({ applied: names })
})

test('a database that cannot be reached is worth another try', async () => {
  await expect(migrate('postgresql://nobody@127.0.0.1:1/none')).rejects.toMatchObject({
    code: 'migration',
    retryable: true,
    message: expect.stringContaining('ECONNREFUSED'),
  })
})

test('what serves already waits until a failed migration has been tried again; a start ends with it', async () => {
  const unfinished = names.at(-1) ?? ''
  await migrate(database.url)
  await database.pool.query(
    `UPDATE _prisma_migrations SET finished_at = NULL, logs = 'killed' WHERE migration_name = $1`,
    [unfinished],
  )
  const told: unknown[] = []
  const log = { info() {}, warn() {}, fatal: (fields: unknown) => told.push(fields) }
  const waiting = { log, signal: new AbortController().signal, onDelay() {} }
  await expect(migrateInTheEnd(database.url, { ...waiting, isStarting: () => true })).rejects.toThrow(
    /failed earlier/,
  )

  const migrated = migrateInTheEnd(database.url, { ...waiting, isStarting: () => false })
  await vi.waitFor(() => expect(told).toHaveLength(1), SOON)
  await database.pool.query(`UPDATE _prisma_migrations SET finished_at = now() WHERE migration_name = $1`, [
    unfinished,
  ])
  await migrated
  expect(told).toHaveLength(1)
})
