import { DatabaseError, type Pool, type PoolClient, escapeIdentifier, escapeLiteral } from 'pg'
import { AppError } from '../errors.ts'

/** Roles that may read schema `kommo` and do nothing else. */

/** The reader could not be made, changed or removed; nothing was. */
export class ReaderError extends AppError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'reader', retryable: false, cause })
  }
}

export interface GrantedReader {
  /** Whether the role was made now. */
  created: boolean
  database: string
  /** How many tables and views it may read. */
  readable: number
  /** What it may do all the same, because every role may and this one has not the right to change it. */
  left: string[]
}

export interface RevokedReader {
  /** False where the role has rights elsewhere, or may not be dropped by the role of the service. */
  dropped: boolean
}

interface Reader {
  name: string
  /** As an SQL identifier. */
  role: string
  oid: number | null
  canLogin: boolean
}

interface Place {
  database: string
  me: string
  /** Owner of the tables: what it makes later is granted in advance. */
  owner: string
  ownsDatabase: boolean
}

/**
 * Makes a role that may select from every table and view of `kommo`, today's and later ones, or brings an existing one
 * to that. All in one transaction.
 *
 * @param verifier what Postgres keeps of the password; `null` leaves that of an existing role as it is
 * @throws ReaderError
 */
export async function grantReader(pool: Pool, name: string, verifier: string | null): Promise<GrantedReader> {
  return inTransaction(pool, name, async (client) => {
    const place = await findPlace(client)
    const reader = await findReader(client, name)
    await refuseOthers(client, reader)
    if (reader.oid === null && verifier === null) {
      throw new ReaderError(
        `Role ${name} does not exist yet: give its password by --password-file or --password-stdin.`,
      )
    }
    if (reader.oid === null) await client.query(`CREATE ROLE ${reader.role} LOGIN`)
    else if (!reader.canLogin) await client.query(`ALTER ROLE ${reader.role} LOGIN`)
    if (verifier !== null) await client.query(`ALTER ROLE ${reader.role} PASSWORD ${escapeLiteral(verifier)}`)
    // A second lock on the door: it also keeps from what no grant governs, such as large objects.
    if (reader.oid === null)
      await client.query(`ALTER ROLE ${reader.role} SET default_transaction_read_only = on`)

    await takeRights(client, reader, place)
    const { rows } = await client.query<{ may: boolean }>(
      `SELECT has_database_privilege($1, current_database(), 'CONNECT') AS may`,
      [name],
    )
    if (rows[0]?.may !== true) {
      await client.query(`GRANT CONNECT ON DATABASE ${escapeIdentifier(place.database)} TO ${reader.role}`)
    }
    await client.query(`GRANT USAGE ON SCHEMA kommo TO ${reader.role}`)
    await client.query(`GRANT SELECT ON ALL TABLES IN SCHEMA kommo TO ${reader.role}`)
    await client.query(`${defaultsOf(place)} GRANT SELECT ON TABLES TO ${reader.role}`)
    const left = await closePublicDoors(client, reader, place)
    const readable = await client.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM pg_class
       WHERE relnamespace = 'kommo'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')`,
    )
    return {
      created: reader.oid === null,
      database: place.database,
      readable: readable.rows[0]?.count ?? 0,
      left,
    }
  })
}

/**
 * Takes what `grantReader` gave, at once also from open sessions, and drops the role unless it is used elsewhere.
 * @throws ReaderError
 */
export async function revokeReader(pool: Pool, name: string): Promise<RevokedReader> {
  return inTransaction(pool, name, async (client) => {
    const place = await findPlace(client)
    const reader = await findReader(client, name)
    if (reader.oid === null) throw new ReaderError(`There is no role ${name}.`)
    await refuseOthers(client, reader)
    await takeRights(client, reader, place)
    await client.query('SAVEPOINT revoked')
    try {
      await client.query(`DROP ROLE ${reader.role}`)
      return { dropped: true }
    } catch (error) {
      // Needed elsewhere (2BP01), or not ours to drop (42501): here it may read nothing any more.
      if (!(error instanceof DatabaseError) || !['2BP01', '42501'].includes(error.code ?? '')) throw error
      await client.query('ROLLBACK TO revoked')
      return { dropped: false }
    }
  })
}

function ignore(): void {}

async function inTransaction<T>(
  pool: Pool,
  name: string,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect()
  // A lost connection fails the statement that runs; without a listener it would end the process too.
  client.on('error', ignore)
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {})
    throw error instanceof DatabaseError && error.code === '42501'
      ? await notAllowed(client, name, error)
      : error
  } finally {
    client.off('error', ignore)
    client.release()
  }
}

async function notAllowed(client: PoolClient, name: string, error: DatabaseError): Promise<ReaderError> {
  const { rows } = await client.query<{ me: string }>('SELECT current_user AS me')
  const me = rows[0]?.me ?? 'of the service'
  return new ReaderError(
    `The role ${me}, as which DATABASE_URL connects, may not do this: ${error.message}. ` +
      `Run the command with the DATABASE_URL of an administrator, or let one run ALTER ROLE ${escapeIdentifier(me)} CREATEROLE, ` +
      `or let one make the role (CREATE ROLE ${escapeIdentifier(name)} LOGIN PASSWORD '…') and run the command again without a password.`,
    error,
  )
}

async function findPlace(client: PoolClient): Promise<Place> {
  const { rows } = await client.query<Place>(
    `SELECT current_database() AS database, current_user AS me,
       (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass('kommo.messages')) AS owner,
       (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()) AS "ownsDatabase"`,
  )
  const [place] = rows
  if (place === undefined || place.owner === null)
    throw new ReaderError('There are no tables yet; run kommo-sync migrate.')
  return place
}

async function findReader(client: PoolClient, name: string): Promise<Reader> {
  const { rows } = await client.query<{ oid: number; canLogin: boolean }>(
    'SELECT oid, rolcanlogin AS "canLogin" FROM pg_roles WHERE rolname = $1',
    [name],
  )
  return {
    name,
    role: escapeIdentifier(name),
    oid: rows[0]?.oid ?? null,
    canLogin: rows[0]?.canLogin ?? false,
  }
}

/** A role that is or may more than a reader is somebody's: neither are its rights to be cut nor is it to be dropped. */
async function refuseOthers(client: PoolClient, { name, oid }: Reader): Promise<void> {
  if (oid === null) return
  const { rows } = await client.query<{ reason: string }>(
    `SELECT 'it is the role of the service itself' AS reason WHERE $1::oid IN (current_user::regrole, session_user::regrole)
     UNION ALL
     SELECT 'it is a superuser, or may make roles or databases, replicate, or pass by row security' FROM pg_roles
     WHERE oid = $1::oid AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
     UNION ALL
     SELECT 'it is a member of the role ' || roleid::regrole FROM pg_auth_members WHERE member = $1::oid
     UNION ALL
     SELECT 'it owns something' WHERE EXISTS (
       SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1::oid AND deptype = 'o')
     UNION ALL
     SELECT 'it has rights in this database beyond schema kommo' WHERE EXISTS (
       SELECT FROM pg_shdepend AS d
       WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1::oid AND d.deptype = 'a'
         AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND NOT (d.classid = 'pg_namespace'::regclass AND d.objid = 'kommo'::regnamespace)
         AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (
           SELECT FROM pg_class AS c WHERE c.oid = d.objid AND c.relnamespace = 'kommo'::regnamespace))
         AND NOT (d.classid = 'pg_default_acl'::regclass AND EXISTS (
           SELECT FROM pg_default_acl AS a WHERE a.oid = d.objid AND a.defaclnamespace = 'kommo'::regnamespace)))
     LIMIT 1`,
    [oid],
  )
  const [other] = rows
  if (other !== undefined)
    throw new ReaderError(`Role ${name} is not a reader: ${other.reason}. Choose another name.`)
}

async function takeRights(client: PoolClient, { role }: Reader, place: Place): Promise<void> {
  await client.query(`REVOKE ALL ON ALL TABLES IN SCHEMA kommo FROM ${role}`)
  await client.query(`REVOKE ALL ON ALL SEQUENCES IN SCHEMA kommo FROM ${role}`)
  await client.query(`REVOKE ALL ON SCHEMA kommo FROM ${role}`)
  await client.query(`${defaultsOf(place)} REVOKE ALL ON TABLES FROM ${role}`)
  if (place.ownsDatabase) {
    await client.query(`REVOKE ALL ON DATABASE ${escapeIdentifier(place.database)} FROM ${role}`)
  }
}

function defaultsOf({ owner }: Place): string {
  return `ALTER DEFAULT PRIVILEGES FOR ROLE ${escapeIdentifier(owner)} IN SCHEMA kommo`
}

/**
 * By default every role may make temporary tables, and in a database that began before PostgreSQL 15 tables in `public`.
 * A right of all cannot be taken from one: it is taken from all, and given to each role that there is, so that nobody
 * else loses it.
 */
async function closePublicDoors(client: PoolClient, reader: Reader, place: Place): Promise<string[]> {
  const database = escapeIdentifier(place.database)
  const { rows } = await client.query<{ temp: boolean; create: boolean; ownsPublic: boolean }>(
    `SELECT has_database_privilege($1, current_database(), 'TEMP') AS temp,
       COALESCE(has_schema_privilege($1, to_regnamespace('public')::oid, 'CREATE'), false) AS create,
       COALESCE((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public'), false) AS "ownsPublic"`,
    [reader.name],
  )
  const [open] = rows
  const doors = [
    {
      open: open?.temp,
      mine: place.ownsDatabase,
      right: `TEMPORARY ON DATABASE ${database}`,
      what: 'make temporary tables',
    },
    {
      open: open?.create,
      mine: open?.ownsPublic,
      right: 'CREATE ON SCHEMA public',
      what: 'make tables in schema public',
    },
  ].filter((door) => door.open === true)
  for (const { right } of doors.filter(({ mine }) => mine === true)) {
    const others = await otherRoles(client)
    await client.query(`REVOKE ${right} FROM PUBLIC`)
    if (others.length > 0) await client.query(`GRANT ${right} TO ${others.map(escapeIdentifier).join(', ')}`)
  }
  return doors
    .filter(({ mine }) => mine !== true)
    .map(({ what, right }) => `${what} (the owner can end it: REVOKE ${right} FROM PUBLIC)`)
}

/** Those that are no readers: who may write nothing in `kommo` but may read it by a grant of its own. */
async function otherRoles(client: PoolClient): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT rolname AS name FROM pg_roles AS r
     WHERE NOT rolsuper AND rolname NOT LIKE 'pg\\_%' AND NOT EXISTS (
       SELECT FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
       WHERE n.nspname = 'kommo' AND a.grantee = r.oid AND a.grantee <> n.nspowner)
     ORDER BY rolname`,
  )
  return rows.map(({ name }) => name)
}
