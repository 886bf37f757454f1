import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { runHere } from '../../helpers/command.ts'

const PASSWORD = 'invented-Pass word-1'

let database: TestDatabase
let folder: string
let env: Record<string, string>
let passwordFile: string
/** Roles belong to the server: each run has its own. */
const suffix = randomUUID().slice(0, 8)
const name = `reader-${suffix}`
const roles = [name]

beforeAll(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'kommo-sync-reader-'))
  passwordFile = join(folder, 'password')
  await writeFile(passwordFile, `${PASSWORD}\n`)
  env = { DATABASE_URL: database.url }
  await database.pool.query(`
    INSERT INTO kommo.conversations (id, scope_id) VALUES ('conversation-1', 'channel_account');
    CREATE TABLE public.secrets AS SELECT 1 AS secret`)
})

afterEach(async () => {
  for (const role of roles.toReversed()) {
    const { rowCount } = await database.pool.query('SELECT FROM pg_roles WHERE rolname = $1', [role])
    if (rowCount === 1) await database.pool.query(`DROP OWNED BY "${role}" CASCADE; DROP ROLE "${role}"`)
  }
})
afterAll(async () => {
  await database?.drop()
  await rm(folder, { recursive: true, force: true })
})

async function connectAs(role: string, password = PASSWORD): Promise<Client> {
  const url = new URL(database.url)
  url.username = role
  url.password = encodeURIComponent(password)
  const client = new Client({ connectionString: url.href })
  await client.connect()
  return client
}

async function grant(...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await runHere(['grant-reader', name, ...args], env)
  if (code !== 0) throw new Error(stdout + stderr)
}

async function relations(): Promise<string[]> {
  const { rows } = await database.pool.query<{ relname: string }>(
    `SELECT relname FROM pg_class WHERE relnamespace = 'kommo'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1`,
  )
  return rows.map(({ relname }) => relname)
}

test('the reader may select from every table and view, and search', async () => {
  await grant('--password-file', passwordFile)
  const reader = await connectAs(name)
  try {
    const tables = await relations()
    expect(tables.length).toBeGreaterThan(15)
    for (const table of tables)
      await expect(reader.query(`SELECT * FROM kommo.${table}`)).resolves.toBeDefined()
    await expect(reader.query(`SELECT * FROM kommo.search_messages('preço')`)).resolves.toBeDefined()
  } finally {
    await reader.end()
  }
})

test('every write, create and grant is refused to the reader, whatever it sets', async () => {
  await grant('--password-file', passwordFile)
  const reader = await connectAs(name)
  await reader.query('SET default_transaction_read_only = off')
  try {
    for (const table of await relations()) {
      for (const statement of [
        `INSERT INTO kommo.${table} DEFAULT VALUES`,
        `DELETE FROM kommo.${table}`,
        `TRUNCATE kommo.${table}`,
        `SELECT * FROM kommo.${table} FOR UPDATE`,
        `ALTER TABLE kommo.${table} RENAME TO mine`,
        `DROP TABLE kommo.${table}`,
      ]) {
        await expect(reader.query(statement), statement).rejects.toThrow(
          /permission denied|must be owner|is not a table|cannot/,
        )
      }
    }
    for (const statement of [
      `UPDATE kommo.conversations SET id = 'other'`,
      `SELECT nextval('kommo.webhook_events_id_seq')`,
      'CREATE TABLE kommo.mine (a int)',
      'CREATE TABLE public.mine (a int)',
      'CREATE TEMPORARY TABLE mine (a int)',
      'CREATE VIEW public.mine AS SELECT 1',
      'CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
      'CREATE SCHEMA mine',
      'CREATE DATABASE mine',
      'CREATE ROLE mine',
      'CREATE EXTENSION pg_trgm',
      `GRANT "${name}" TO CURRENT_USER`,
      'SET ROLE kommo',
      'SELECT * FROM public.secrets',
      'SELECT * FROM public._prisma_migrations',
      'SELECT * FROM pg_authid',
      `COPY kommo.conversations TO PROGRAM 'cat'`,
      `SELECT pg_read_file('/etc/passwd')`,
    ]) {
      const outcome = await reader.query(statement).then(
        () => 'done',
        (error: Error) => error.message,
      )
      expect(outcome, statement).toMatch(/permission denied|must be|no privileges|cannot|role memberships/)
    }
  } finally {
    await reader.end()
  }
})

test('the reader cannot pass on what it may', async () => {
  await grant('--password-file', passwordFile)
  const rights = async () =>
    (
      await database.pool.query(
        `SELECT relname, relacl::text, (SELECT nspacl::text FROM pg_namespace WHERE nspname = 'kommo') FROM pg_class
         WHERE relnamespace = 'kommo'::regnamespace ORDER BY 1`,
      )
    ).rows
  const before = await rights()
  const reader = await connectAs(name)
  // For want of a grant option Postgres only warns: what counts is that nothing was granted.
  for (const right of [
    'SELECT ON ALL TABLES IN SCHEMA kommo',
    'INSERT ON kommo.messages',
    'USAGE ON SCHEMA kommo',
  ]) {
    await reader.query('SET default_transaction_read_only = off')
    await reader.query(`GRANT ${right} TO PUBLIC`).catch(() => {})
  }
  await reader.end()
  expect(await rights()).toEqual(before)
})

test('tables and views of later versions are readable without another grant', async () => {
  await grant('--password-file', passwordFile)
  await database.pool.query(
    'CREATE TABLE kommo.later (a int); CREATE VIEW kommo.later_view AS SELECT * FROM kommo.later',
  )
  const reader = await connectAs(name)
  try {
    await expect(reader.query('SELECT * FROM kommo.later, kommo.later_view')).resolves.toBeDefined()
  } finally {
    await reader.end()
    await database.pool.query('DROP TABLE kommo.later CASCADE')
  }
})

test('others keep what is taken from PUBLIC', async () => {
  const other = `other-${suffix}`
  roles.push(other)
  await using untouched = Object.assign(await createTestDatabase(), {
    [Symbol.asyncDispose]: async () => untouched.drop(),
  })
  await untouched.pool.query(`CREATE ROLE "${other}"`)
  const granted = await runHere(['grant-reader', name, '--password-file', passwordFile], {
    DATABASE_URL: untouched.url,
  })
  expect(granted.code).toBe(0)
  const { rows } = await untouched.pool.query<{ reader: boolean; other: boolean }>(
    `SELECT has_database_privilege($1, current_database(), 'TEMP') AS reader,
       has_database_privilege($2, current_database(), 'TEMP') AS other`,
    [name, other],
  )
  expect(rows).toEqual([{ reader: false, other: true }])
  await untouched.pool.query(`DROP OWNED BY "${name}", "${other}"`)
})

test('granting again takes away what was added, and keeps the password unless a new one is given', async () => {
  await grant('--password-file', passwordFile)
  await database.pool.query(`GRANT INSERT, SELECT ON kommo.messages TO "${name}"`)
  await grant()
  const reader = await connectAs(name)
  await reader.query('SET default_transaction_read_only = off')
  await expect(reader.query(`INSERT INTO kommo.messages (id) VALUES ('m')`)).rejects.toThrow(
    /permission denied/,
  )
  await reader.end()

  const { code } = await runHere(['grant-reader', name, '--password-stdin'], env, 'another-password')
  expect(code).toBe(0)
  await expect(connectAs(name)).rejects.toThrow(/password authentication failed/)
  await (await connectAs(name, 'another-password')).end()
})

test('revoke-reader takes the rights from open sessions and removes the role', async () => {
  await grant('--password-file', passwordFile)
  const reader = await connectAs(name)
  await expect(reader.query('SELECT * FROM kommo.transcript')).resolves.toBeDefined()
  const { code, stdout } = await runHere(['revoke-reader', name, '--json'], env)
  expect([code, JSON.parse(stdout)]).toEqual([0, { reader: name, dropped: true }])
  await expect(reader.query('SELECT * FROM kommo.transcript')).rejects.toThrow(
    /permission denied|does not exist/,
  )
  await reader.end()
  await expect(connectAs(name)).rejects.toThrow(/password authentication failed/)
  expect((await runHere(['revoke-reader', name], env)).stderr).toContain(`There is no role ${name}.`)
})

test('a service role that may make no roles is told what to do, and can grant to one that an administrator made', async () => {
  const owner = `owner-${suffix}`
  roles.push(owner)
  const own = await createTestDatabase()
  try {
    const ownName = new URL(own.url).pathname.slice(1)
    await own.pool.query(`
      CREATE ROLE "${owner}" LOGIN PASSWORD '${PASSWORD}';
      ALTER DATABASE ${ownName} OWNER TO "${owner}";
      ALTER SCHEMA kommo OWNER TO "${owner}"`)
    await own.pool.query(`
      DO $$ DECLARE r record; BEGIN
        FOR r IN SELECT oid::regclass AS name, relkind FROM pg_class WHERE relnamespace = 'kommo'::regnamespace AND relkind IN ('r', 'v')
        LOOP EXECUTE format('ALTER %s %s OWNER TO %I', CASE r.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, r.name, '${owner}'); END LOOP;
      END $$`)
    const url = new URL(own.url)
    url.username = owner
    url.password = encodeURIComponent(PASSWORD)
    const ownEnv = { DATABASE_URL: url.href }
    const refused = await runHere(['grant-reader', name, '--password-file', passwordFile], ownEnv)
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(/permission denied to create role.*CREATEROLE/s)
    expect(refused.stderr).not.toContain(PASSWORD)

    await own.pool.query(`CREATE ROLE "${name}"  LOGIN PASSWORD '${PASSWORD}'`)
    const granted = await runHere(['grant-reader', name], ownEnv)
    expect([granted.code, granted.stderr]).toEqual([0, ''])
    expect(granted.stdout).not.toContain('may still')
    const revoked = await runHere(['revoke-reader', name, '--json'], ownEnv)
    expect([revoked.code, JSON.parse(revoked.stdout)]).toEqual([0, { reader: name, dropped: false }])
  } finally {
    await own.drop()
  }
})

test.each([
  ['is a superuser', 'SUPERUSER', ''],
  ['may make roles', 'CREATEROLE', ''],
  ['is a member', '', 'GRANT pg_read_all_data TO'],
  ['has rights in this database', '', 'GRANT SELECT ON public.secrets TO'],
])('a role that %s is neither made a reader nor revoked', async (_what, attributes, statement) => {
  await database.pool.query(`CREATE ROLE "${name}" ${attributes}`)
  if (statement !== '') await database.pool.query(`${statement} "${name}"`)
  for (const command of ['grant-reader', 'revoke-reader']) {
    const { code, stderr } = await runHere([command, name], env)
    expect(code).toBe(1)
    expect(stderr).toContain(`Role ${name} is not a reader`)
  }
})

test.each([
  [['grant-reader']],
  [['grant-reader', 'Nobody; DROP']],
  [['grant-reader', 'pg_monitor']],
  [['grant-reader', 'a', '--password', PASSWORD]],
  [['grant-reader', 'a', '--password-file', '/nowhere/at/all']],
  [['revoke-reader', 'public']],
])('%j ends with 2', async (args) => {
  const { code, stdout } = await runHere(args, env)
  expect([code, stdout]).toEqual([2, ''])
})

test('a password that clients encode differently, or a short one, ends with 2 and is not shown', async () => {
  for (const password of ['пароль-пароль', 'short', 'two\nlines-of-it']) {
    const { code, stderr } = await runHere(['grant-reader', name, '--password-stdin'], env, password)
    expect(code).toBe(2)
    expect(stderr).not.toContain(password)
  }
})

test('a new role needs a password', async () => {
  const { code, stderr } = await runHere(['grant-reader', name], env)
  expect([code, stderr]).toEqual([1, expect.stringContaining('--password-file')])
})

test('the password is in no statement: the server only ever sees its verifier', async () => {
  await database.pool.query(`
    CREATE TABLE public.heard (tag text, query text);
    CREATE FUNCTION public.hear() RETURNS event_trigger LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO public.heard VALUES (tg_tag, current_query()); END $$;
    CREATE EVENT TRIGGER hear_${suffix} ON ddl_command_end EXECUTE FUNCTION public.hear()`)
  try {
    await grant('--password-file', passwordFile)
    const { rows } = await database.pool.query<{ secret: string }>(
      'SELECT rolpassword AS secret FROM pg_authid WHERE rolname = $1',
      [name],
    )
    expect(rows[0]?.secret).toMatch(/^SCRAM-SHA-256\$4096:/)
    const heard = await database.pool.query<{ query: string }>('SELECT query FROM public.heard')
    expect(JSON.stringify(heard.rows)).not.toContain(PASSWORD)
  } finally {
    await database.pool.query(
      `DROP EVENT TRIGGER hear_${suffix}; DROP FUNCTION public.hear; DROP TABLE public.heard`,
    )
  }
})
