import { Socket } from 'node:net'

/** The sockets under database connections, to be let go of when the server does not answer any more. */
export interface Sockets {
  open(): Socket
  /** For good: what is under way on them ends with an error at once, and so does what opens another. */
  cutOff(): void
  /** Waits for connections to end in order, a moment; then they end in another way. */
  whenEnded(ending: Promise<unknown>): Promise<void>
}

/** A server that answers says goodbye within milliseconds. */
const GOODBYE_MS = 1000

export function createSockets(): Sockets {
  const sockets = new Set<Socket>()
  let isCutOff = false

  function cutOff(): void {
    isCutOff = true
    for (const socket of sockets) letGo(socket)
  }

  return {
    open() {
      const socket = new Socket()
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      if (isCutOff) socket.once('connect', () => letGo(socket))
      return socket
    },
    cutOff,
    async whenEnded(ending) {
      const patience = setTimeout(cutOff, GOODBYE_MS)
      try {
        await ending
      } finally {
        clearTimeout(patience)
      }
    },
  }
}

function letGo(socket: Socket): void {
  socket.destroy(new Error('the connection was let go of'))
}
