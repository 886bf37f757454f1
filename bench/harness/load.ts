import { type Socket, connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'

/**
 * A client as light as can be, because it shares the machine with what it measures: lasting connections, requests made
 * beforehand, of an answer only status and length are read. Any answer but 200 ends the run.
 */
export interface Load extends AsyncDisposable {
  /** Sends one, and waits for its answer. */
  post(): Promise<void>
  /** Each connection sends the next webhook when the last is answered. @returns answers a second */
  throughput(durationMs: number): Promise<number>
  /**
   * Sends at a rate, whether or not the webhooks before are answered, over as many connections as are free.
   * @returns how long each answer took from the moment its webhook was due, in milliseconds
   */
  answerTimes(perSecond: number, durationMs: number): Promise<number[]>
}

export function webhookRequest({ scopeId, bytes, signature }: SignedWebhook): Buffer {
  const head = [
    `POST /webhooks/kommo/${scopeId} HTTP/1.1`,
    'Host: localhost',
    'Content-Type: application/json',
    'User-Agent: amoCRM amoJo/1.0',
    `X-Signature: ${signature}`,
    `Content-Length: ${bytes.length}`,
  ]
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), bytes])
}

/** @param urls connections are dealt out to these in turn */
export function openLoad(urls: readonly string[], requests: readonly Buffer[], connections: number): Load {
  let sent = 0
  const next = (): Buffer => requests[sent++ % requests.length] ?? Buffer.alloc(0)
  const opened = Array.from({ length: connections }, (_, number) =>
    createConnection(urls[number % urls.length] ?? ''),
  )
  return {
    async post() {
      await opened[0]?.post(next())
    },
    async throughput(durationMs) {
      const startedAt = performance.now()
      let answers = 0
      await Promise.all(
        opened.map(async (connection) => {
          while (performance.now() - startedAt < durationMs) {
            await connection.post(next())
            answers += 1
          }
        }),
      )
      return (answers / (performance.now() - startedAt)) * 1000
    },
    async answerTimes(perSecond, durationMs) {
      const times: number[] = []
      const free = [...opened]
      const waiting: number[] = []
      const posting = new Set<Promise<void>>()
      const startedAt = performance.now()
      const total = Math.round((perSecond * durationMs) / 1000)
      const start = (dueAt: number): void => {
        const connection = free.pop()
        if (connection === undefined) {
          waiting.push(dueAt)
          return
        }
        const posted = postOn(connection, dueAt).finally(() => posting.delete(posted))
        posting.add(posted)
      }
      const postOn = async (connection: Connection, dueAt: number): Promise<void> => {
        await connection.post(next())
        times.push(performance.now() - dueAt)
        free.push(connection)
        const late = waiting.shift()
        if (late !== undefined) start(late)
      }
      for (let number = 0; number < total;) {
        const now = performance.now()
        // What became due since the last look leaves together; it was not late, the timer is only that fine.
        while (number < total && startedAt + (number / perSecond) * 1000 <= now) {
          start(now)
          number += 1
        }
        await sleep(1)
      }
      while (posting.size > 0) await Promise.all(posting)
      return times
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(opened.map((connection) => connection.close()))
    },
  }
}

interface Connection {
  /** Resolves when the answer is whole. */
  post(request: Buffer): Promise<void>
  close(): Promise<void>
}

/** Opened again where the server has let it go: a side that waits for its turn sends nothing for longer than servers wait. */
function createConnection(url: string): Connection {
  let current: OpenConnection | null = null
  return {
    async post(request) {
      if (current === null || current.isClosed()) current = await openConnection(url)
      await current.post(request)
    },
    close: async () => current?.close(),
  }
}

interface OpenConnection extends Connection {
  isClosed(): boolean
}

async function openConnection(url: string): Promise<OpenConnection> {
  const { hostname, port } = new URL(url)
  const socket: Socket = connect({ host: hostname, port: Number(port), noDelay: true })
  const connected = Promise.withResolvers<void>()
  let pending: PromiseWithResolvers<void> | null = null
  let received = ''
  const fail = (error: Error): void => {
    connected.reject(error)
    pending?.reject(error)
  }
  socket.once('connect', () => connected.resolve())
  socket.on('error', fail)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  void closed.then(() => fail(new Error('the connection was closed')))
  socket.setEncoding('latin1').on('data', (text: string) => {
    received += text
    const headEnd = received.indexOf('\r\n\r\n')
    if (headEnd === -1) return
    const length = Number(/content-length: (\d+)/i.exec(received)?.[1] ?? 0)
    if (received.length < headEnd + 4 + length) return
    const isOk = received.startsWith('HTTP/1.1 200')
    const answer = received
    received = ''
    if (isOk) pending?.resolve()
    else pending?.reject(new Error(`a webhook was answered ${answer.slice(0, 300)}`))
  })
  await connected.promise
  return {
    isClosed: () => socket.destroyed,
    post(request) {
      pending = Promise.withResolvers()
      socket.write(request)
      return pending.promise
    },
    async close() {
      socket.end()
      await closed
    },
  }
}
