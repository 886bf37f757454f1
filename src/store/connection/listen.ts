import { Client } from 'pg'
import type { Logger } from 'pino'
import type { Queryable } from './queryable.ts'
import { createSockets } from './sockets.ts'

/** What a notification says when webhooks came in: their conversations are due after `SETTLE_MS`, not now. */
export const WEBHOOKS = 'webhooks'

export interface Listener {
  close(): Promise<void>
}

const RECONNECT_MS = 5000

/** Tells all workers to look for what is due: what this process gave back, they need not find by polling. */
export async function wakeWorkers(db: Queryable): Promise<void> {
  await db.$executeRaw`SELECT pg_notify('kommo_sync', '')`
}

/**
 * Calls back when a receiver has committed webhooks, or an operator a call. Only a hint: polling finds the same, so a
 * connection that is lost, or a pooler that cannot LISTEN, costs a delay and nothing else.
 */
export function listen(
  databaseUrl: string,
  log: Logger,
  onNotification: (payload: string) => void,
): Listener {
  let closed = false
  let retryTimer: NodeJS.Timeout | undefined
  let client: Client | null = null
  const sockets = createSockets()

  async function connect(): Promise<void> {
    const connecting = new Client({
      connectionString: databaseUrl,
      stream: () => sockets.open(),
      application_name: 'kommo-sync listener',
      keepAlive: true,
      connectionTimeoutMillis: 5000,
    })
    client = connecting
    connecting.on('notification', ({ payload = '' }) => onNotification(payload))
    // An error without a handler would end the process; every one of them also ends the connection.
    connecting.on('error', (error) => log.debug({ err: error }, 'the listening connection failed'))
    connecting.on('end', retryLater)
    try {
      await connecting.connect()
      const { rows } = await connecting.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      if (rows[0]?.pid !== Reflect.get(connecting, 'processID')) {
        log.info('a pooler shares the database connections, which cannot listen for notifications: polling')
        closed = true
        await connecting.end()
        return
      }
      await connecting.query('LISTEN kommo_sync')
      onNotification('')
    } catch (error) {
      log.info({ err: error }, 'cannot listen for notifications; polling until it works again')
      await connecting.end().catch(() => {})
      retryLater()
    }
  }

  function retryLater(): void {
    if (closed) return
    clearTimeout(retryTimer)
    retryTimer = setTimeout(() => void connect(), RECONNECT_MS)
  }

  void connect()

  return {
    async close() {
      closed = true
      clearTimeout(retryTimer)
      await sockets.whenEnded(client?.end().catch(() => {}) ?? Promise.resolve())
    },
  }
}
