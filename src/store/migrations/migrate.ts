import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client, DatabaseError, type Pool } from 'pg'
import type { BaseLogger } from 'pino'
import { AppError } from '../../errors.ts'
import { openSchemaEngine } from './schema-engine.ts'

const MIGRATIONS = fileURLToPath(new URL('../../../prisma/migrations', import.meta.url))

/** Any constant will do; it must differ from Prisma's. */
const LOCK_KEY = 5_066_624_218_001

/** The engine takes this one inside ours, and `prisma migrate deploy` takes it alone. */
const PRISMA_LOCK_KEY = 72_707_369

const LOCK_POLL_MS = 200

/** Long enough for another replica to index a large table. */
const LOCK_WAIT_MS = 300_000

export interface MigrateOptions {
  log?: Pick<BaseLogger, 'info' | 'warn'>
  signal?: AbortSignal
  /** Folder of migrations; another one is for tests. */
  migrationsDir?: string
  /** How long to wait while another process migrates. */
  lockWaitMs?: number
  /** Tries again what has failed: somebody has removed the cause. */
  again?: boolean
}

/** The tables could not be brought up to date. */
export class MigrationError extends AppError {
  constructor(message: string, options: { retryable: boolean; cause?: unknown }) {
    super(message, { code: 'migration', ...options })
  }
}

/**
 * Applies what is pending, as `prisma migrate deploy` does: same table, same checksums, so both serve one database.
 * May run in any number of processes at once.
 * @throws MigrationError that names the migration and says what to do.
 */
export async function migrate(
  databaseUrl: string,
  { log, signal, migrationsDir = MIGRATIONS, lockWaitMs = LOCK_WAIT_MS, again = false }: MigrateOptions = {},
): Promise<{ applied: string[] }> {
  signal?.throwIfAborted()
  const client = new Client({
    connectionString: databaseUrl,
    application_name: 'kommo-sync migrate',
    connectionTimeoutMillis: 10_000,
  })
  // A lost connection fails the query that runs, or the next one; without a listener it would end the process.
  client.on('error', () => {})
  try {
    await client.connect()
    const files = await readMigrations(migrationsDir)
    // The usual start: nothing to do, so neither lock nor engine.
    const before = await compare(client, files)
    for (const name of before.edited)
      log?.warn({ migration: name }, 'migration file changed after it was applied')
    for (const name of before.foreign)
      log?.warn({ migration: name }, 'database is ahead: migration not known here')
    const isForeign = (name: string) => before.foreign.includes(name)
    if (again && before.failed.some(isForeign)) throw unknownHere(before.failed.filter(isForeign))
    // What newer code failed to apply left nothing behind: it does not keep this version from its work.
    if (before.pending.length === 0 && before.failed.every(isForeign)) return { applied: [] }

    await lock(client, LOCK_KEY, lockWaitMs, signal)
    // What the Prisma CLI has in hand looks like a failed migration until it is done.
    await lock(client, PRISMA_LOCK_KEY, lockWaitMs, signal)
    const { failed } = await compare(client, files)
    await client.query('SELECT pg_advisory_unlock($1)', [PRISMA_LOCK_KEY])
    if (failed.length > 0 && !again) throw failedBefore(failed)
    if (failed.length > 0) await forgetFailures(databaseUrl, failed)
    const applied = await apply(databaseUrl, migrationsDir, files).catch(async (error: unknown) => {
      throw failedNow((await compare(client, files)).failed, error)
    })
    if (applied.length > 0) log?.info({ applied }, 'migrations applied')
    return { applied }
  } catch (error) {
    signal?.throwIfAborted()
    throw error instanceof AppError ? error : unreachable(error)
  } finally {
    // Ends the session and with it the lock.
    await client.end().catch(() => {})
  }
}

/** Names of migrations that the database has not finished. Cheap: one folder listing, one query. */
export async function pendingMigrations(database: Session): Promise<string[]> {
  return (await compare(database, await readMigrations(MIGRATIONS))).pending
}

/** A `pg` pool or client. */
export type Session = Pick<Pool, 'query'>

interface MigrationFile {
  name: string
  sql: string
  /** As Prisma records it. */
  checksum: string
}

async function readMigrations(dir: string): Promise<MigrationFile[]> {
  const entries = await readdir(dir, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  return Promise.all(
    names.toSorted().map(async (name) => {
      const sql = await readFile(join(dir, name, 'migration.sql'), 'utf8')
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') }
    }),
  )
}

interface Comparison {
  pending: string[]
  /** Begun and neither finished nor rolled back. */
  failed: string[]
  edited: string[]
  /** In the database, finished or not, and unknown to this version of the code. */
  foreign: string[]
}

interface MigrationRow {
  migration_name: string
  checksum: string
  finished: boolean
}

async function compare(database: Session, files: MigrationFile[]): Promise<Comparison> {
  const rows = await recordedMigrations(database)
  const finished = new Map(
    rows.filter((row) => row.finished).map((row) => [row.migration_name, row.checksum]),
  )
  return {
    pending: files.filter(({ name }) => !finished.has(name)).map(({ name }) => name),
    failed: rows.filter((row) => !row.finished).map((row) => row.migration_name),
    edited: files
      .filter(({ name, checksum }) => finished.has(name) && finished.get(name) !== checksum)
      .map(({ name }) => name),
    foreign: rows
      .map((row) => row.migration_name)
      .filter((name) => files.every((file) => file.name !== name)),
  }
}

async function recordedMigrations(database: Session): Promise<MigrationRow[]> {
  try {
    const { rows } = await database.query<MigrationRow>(
      `SELECT migration_name, checksum, finished_at IS NOT NULL AS finished
         FROM _prisma_migrations WHERE rolled_back_at IS NULL`,
    )
    return rows
  } catch (error) {
    if (error instanceof DatabaseError && error.code === '42P01') return [] // no such table: an empty database
    throw error
  }
}

/** Asks again and again: a statement that waits would hold a snapshot, which `CREATE INDEX CONCURRENTLY` waits for. */
async function lock(
  client: Client,
  key: number,
  waitMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const deadline = performance.now() + waitMs
  for (;;) {
    const { rows } = await client.query<{ held: boolean }>('SELECT pg_try_advisory_lock($1) AS held', [key])
    if (rows[0]?.held) return
    if (performance.now() >= deadline) {
      throw new MigrationError(
        `Another process has been migrating this database for ${Math.round(waitMs / 1000)} s. ` +
          `Wait for it, or end its session: SELECT pid, application_name FROM pg_stat_activity.`,
        { retryable: true },
      )
    }
    await sleep(LOCK_POLL_MS, undefined, { signal })
  }
}

async function forgetFailures(databaseUrl: string, failed: string[]): Promise<void> {
  const { engine, close } = await openSchemaEngine(databaseUrl)
  try {
    for (const migrationName of failed) await engine.markMigrationRolledBack({ migrationName })
  } finally {
    await close()
  }
}

async function apply(databaseUrl: string, dir: string, files: MigrationFile[]): Promise<string[]> {
  const { engine, close } = await openSchemaEngine(databaseUrl)
  try {
    const { appliedMigrationNames } = await engine.applyMigrations({
      migrationsList: {
        baseDir: dir,
        lockfile: {
          path: 'migration_lock.toml',
          content: await readFile(join(dir, 'migration_lock.toml'), 'utf8'),
        },
        shadowDbInitScript: '',
        migrationDirectories: files.map(({ name, sql }) => ({
          path: name,
          migrationFile: { path: 'migration.sql', content: { tag: 'ok', value: sql } },
        })),
      },
      filters: { externalTables: [], externalEnums: [] },
    })
    return appliedMigrationNames
  } finally {
    await close()
  }
}

const RESOLUTION = 'Remove the cause, run `kommo-sync migrate --again`, and start.'

function failedNow(names: string[], cause: unknown): MigrationError {
  // None was begun: the engine could not work at all, most likely for want of a connection.
  if (names.length === 0) return unreachable(cause)
  return new MigrationError(
    `Migration ${names.join(', ')} failed, nothing of it was kept: ${reasonOf(cause)}. ${RESOLUTION}`,
    { retryable: false, cause },
  )
}

function failedBefore(names: string[]): MigrationError {
  return new MigrationError(
    `Migration ${names.join(', ')} failed earlier (see column logs of _prisma_migrations), so nothing was applied. ` +
      RESOLUTION,
    { retryable: false },
  )
}

function unknownHere(names: string[]): MigrationError {
  return new MigrationError(
    `Migration ${names.join(', ')} failed and is not known to this version: try it again with the version that brought it.`,
    { retryable: false },
  )
}

function unreachable(error: unknown): MigrationError {
  return new MigrationError(`The database could not be asked for its migrations: ${reasonOf(error)}`, {
    retryable: true,
    cause: error,
  })
}

/**
 * The engine adds its own stack to a message (`   0: …`) and a first line that says nothing; `pg` gives an AggregateError
 * without a message when no address answers.
 */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join(', ')
  const [text = ''] = error.message.split(/^ +0: /m)
  return text.replace('external connector error', '').trim()
}
