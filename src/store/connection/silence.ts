import type { Socket } from 'node:net'
import type { ClientBase, Pool } from 'pg'

/**
 * Ends a connection with an error when its server says nothing for so long while somebody works with it. Without it a
 * connection to a host that is gone is held for a quarter of an hour: as long as the system tries.
 *
 * In place of pg's `query_timeout`, which wraps the callback of every query. V8 then keeps finished queries, their values
 * and results until its next full collection, one a second under load (measured, docs/benchmarks.md).
 */
export interface SilenceLimit {
  /** From the first moment of a connection. */
  watch(client: ClientBase): void
  /** While connections are lent. */
  follow(pool: Pool): void
}

export function createSilenceLimit(ms: number): SilenceLimit {
  return {
    watch(client) {
      const socket = socketOf(client)
      socket.on('timeout', () => {
        socket.destroy(new Error(`the database has said nothing for ${ms} ms; the connection was let go of`))
      })
      socket.setTimeout(ms)
    },
    follow(pool) {
      pool.on('acquire', (client) => socketOf(client).setTimeout(ms))
      pool.on('release', (_error, client) => socketOf(client).setTimeout(0))
    },
  }
}

/** pg's types do not tell of it. Where the connection is encrypted, this is the socket that encrypts. */
function socketOf(client: ClientBase): Socket {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- pg has a socket there from its construction on
  return Reflect.get(Reflect.get(client, 'connection') as object, 'stream') as Socket
}
