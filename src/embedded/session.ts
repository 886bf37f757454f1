import { Client, DatabaseError } from 'pg'
import { EmbeddedPostgresError } from './errors.ts'

export const USER = 'kommo'
export const DATABASE = 'kommo'

/** Every process that uses the embedded server keeps one session of this name: who is last switches off the light. */
const PRESENCE = 'kommo-sync embedded'

/** Short questions, not a use of the server. */
const PROBE = 'kommo-sync probe'

const CONNECT_TIMEOUT_MS = 10_000

export interface Address {
  port: number
  password: string
}

function createClient({ port, password }: Address, database: string, name = PROBE): Client {
  const client = new Client({
    host: '127.0.0.1',
    port,
    user: USER,
    password,
    database,
    application_name: name,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
  })
  // A lost connection also ends the client ('end'), which is what is listened for.
  client.on('error', () => {})
  return client
}

/** Why the server cannot be used now; `retryable` while it may be starting or stopping. */
export async function tryConnect(address: Address): Promise<EmbeddedPostgresError | undefined> {
  const client = createClient(address, 'postgres')
  try {
    await client.connect()
    return undefined
  } catch (error) {
    // Class 28: the password is not this server's. Everything else passes (refused, starting up, shutting down).
    const isForeign = error instanceof DatabaseError && error.code?.startsWith('28') === true
    return new EmbeddedPostgresError(
      `The server on port ${address.port} refuses the password of this DATA_DIR: ` +
        `postgres.password does not belong to the folder postgres beside it.`,
      { retryable: !isForeign, cause: error },
    )
  } finally {
    await client.end().catch(() => {})
  }
}

export interface Presence {
  /** The server's process of this session. */
  pid: number
  /** Settles when the session ends, whoever ended it. */
  ended: Promise<void>
  close: () => Promise<void>
}

/** Creates the database on first use. */
export async function openPresence(address: Address): Promise<Presence> {
  await createDatabase(address)
  const client = createClient(address, DATABASE, PRESENCE)
  const ended = Promise.withResolvers<void>()
  client.once('end', () => ended.resolve())
  await client.connect()
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  return {
    pid: rows[0]?.pid ?? 0,
    ended: ended.promise,
    close: () => client.end().catch(() => {}),
  }
}

/** How many other processes use the server. */
export async function countOthers(address: Address, own: Presence): Promise<number> {
  const client = createClient(address, DATABASE)
  try {
    await client.connect()
    const { rows } = await client.query<{ others: number }>(
      `SELECT count(*)::int AS others FROM pg_stat_activity
        WHERE datname = $1 AND application_name = $2 AND pid <> $3`,
      [DATABASE, PRESENCE, own.pid],
    )
    return rows[0]?.others ?? 0
  } finally {
    await client.end().catch(() => {})
  }
}

async function createDatabase(address: Address): Promise<void> {
  const client = createClient(address, 'postgres')
  try {
    await client.connect()
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [DATABASE])
    if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`)
  } finally {
    await client.end().catch(() => {})
  }
}
