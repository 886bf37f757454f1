import { PrismaPg } from '@prisma/adapter-pg'
import { type ClientBase, Pool } from 'pg'
import type { BaseLogger } from 'pino'
import { PrismaClient } from '../generated/client.ts'
import type { Queryable } from './queryable.ts'
import { createRawQueryable } from './raw-queryable.ts'
import { createSilenceLimit } from './silence.ts'
import { createSockets } from './sockets.ts'
import { createStatementNames } from './statement-names.ts'

/** Bursts must not wait for new connections (a handshake each). */
const WARM_CONNECTIONS = 2

/** A connection that was not made by then is not coming soon; the caller has a better plan (spool, back-off). */
const CONNECT_TIMEOUT_MS = 5_000

/** Our statements take milliseconds. One that hangs must not hold locks and a connection for ever. */
const STATEMENT_TIMEOUT_MS = 60_000

/**
 * Between the statements of a transaction we compute for milliseconds. A process that hangs there holds rows that others
 * wait for: the server ends its transaction, before its leases run out.
 */
const IDLE_IN_TRANSACTION_MS = 10_000

/** The server ends a slow statement itself; after this long without its word, it or the way to it is gone. */
const SILENCE_MS = 1000

const IDLE_TIMEOUT_MS = 30_000

export interface DatabaseOptions {
  maxConnections?: number
  /** For a statement, and for a connection to be made; a webhook has less time than a page. */
  timeoutMs?: number
  log?: Pick<BaseLogger, 'warn'>
}

export interface Database {
  url: string
  prisma: PrismaClient
  /** The same statements through the bare driver. */
  raw: Queryable
  /** The connections that Prisma uses, for what Prisma cannot do. */
  pool: Pool
  /** Ends what is under way with an error: for a stop that must not wait for a server that does not answer. */
  cutOff: () => void
  close: () => Promise<void>
}

/** Connects when first used. A lost connection fails the statement that ran on it; the next one gets a new connection. */
export function createDatabase(
  databaseUrl: string,
  { maxConnections = 10, timeoutMs = STATEMENT_TIMEOUT_MS, log }: DatabaseOptions = {},
): Database {
  const session = { isOwn: false }
  const sockets = createSockets()
  const silence = createSilenceLimit(timeoutMs + SILENCE_MS)
  const pool = new Pool({
    stream: () => sockets.open(),
    // oxlint-disable-next-line typescript/no-misused-promises -- the pool waits for it, its types do not say so
    onConnect(client) {
      silence.watch(client)
      return prepareSession(client, timeoutMs, session)
    },
    connectionString: databaseUrl,
    application_name: 'kommo-sync',
    max: maxConnections,
    min: Math.min(WARM_CONNECTIONS, maxConnections),
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    connectionTimeoutMillis: Math.min(CONNECT_TIMEOUT_MS, timeoutMs),
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  })
  silence.follow(pool)
  // Without a listener an idle connection that is lost would end the process.
  pool.on('error', (error) => log?.warn({ err: error }, 'idle database connection lost'))
  const statementNames = createStatementNames(() => session.isOwn)
  const prisma = new PrismaClient({
    adapter: new PrismaPg(pool, { statementNameGenerator: statementNames }),
  })
  return {
    url: databaseUrl,
    prisma,
    raw: createRawQueryable(pool, statementNames),
    pool,
    cutOff: () => sockets.cutOff(),
    async close() {
      await prisma.$disconnect()
      await sockets.whenEnded(pool.end())
    },
  }
}

interface Session {
  /** False behind a pooler (PgBouncer in transaction mode), where each transaction may meet another session. */
  isOwn: boolean
}

/**
 * Sets the time limits, and finds out whether the session is ours alone: behind a pooler the process that answers is not
 * the one that the connection was told of. There, limits would hit strangers and prepared statements would not be found.
 */
async function prepareSession(client: ClientBase, timeoutMs: number, session: Session): Promise<void> {
  const { rows } = await client.query(
    `SELECT set_config('statement_timeout', $2, false), set_config('idle_in_transaction_session_timeout', $3, false)
     WHERE pg_backend_pid() = $1::int`,
    [Reflect.get(client, 'processID'), String(timeoutMs), String(IDLE_IN_TRANSACTION_MS)],
  )
  session.isOwn = rows.length === 1
}
