import { access, constants, mkdir, realpath } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BaseLogger } from 'pino'
import { ConfigError } from '../errors.ts'
import { EmbeddedPostgresError } from './errors.ts'
import { withLockFile } from './lock-file.ts'
import { connectionUrl, findOrStartServer, findServer, serverFiles, stopServer } from './server.ts'
import { countOthers, openPresence, type Presence } from './session.ts'

/** Longer than a start or a stop takes at worst. */
const LOCK_WAIT_MS = 360_000

const RESTART_DELAY_MS = { first: 100, most: 10_000 }

export interface EmbeddedPostgresOptions {
  /** The server's folder is `postgres` in it; its password, port and log lie beside. */
  dataDir: string
  log: Pick<BaseLogger, 'info' | 'warn' | 'error'>
  /** False: faster, and a power cut may lose the database. For tests only. */
  durable?: boolean
}

export interface EmbeddedPostgres {
  /** Stays the same while the handle lives, also when the server is restarted. */
  url: string
  /** Stops the server, unless another process still uses it. */
  stop: () => Promise<void>
}

/**
 * A real Postgres server on a folder, for a machine that has none. Any number of processes may call this for the same
 * folder: they share one server, and it is stopped by whoever leaves last. A server that a killed process left running is
 * adopted, one that died is started again while somebody uses it.
 *
 * Starting, stopping and restarting happen under a lock file; each process then keeps one session open. That session shows
 * the others that it is there, and its end tells it that the server died.
 * @throws ConfigError where the server is not installed, EmbeddedPostgresError where it does not start.
 */
export async function startEmbeddedPostgres({
  dataDir: path,
  log,
  durable = true,
}: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = await prepareFolder(path)
  const files = serverFiles(dataDir)
  const leaving = new AbortController()

  let { address, presence } = await withLockFile(files.lock, LOCK_WAIT_MS, async () => {
    const found = await findOrStartServer({ dataDir, durable })
    return { address: found, presence: await openPresence(found) }
  })
  log.info({ port: address.port, dataDir }, 'embedded Postgres is ready')
  const watching = watch()

  /** A server that died (killed, out of memory) comes back under the same address. */
  async function watch(): Promise<void> {
    for (;;) {
      await presence.ended
      if (leaving.signal.aborted) return
      log.warn({ port: address.port }, 'embedded Postgres is gone, starting it again')
      const next = await enterAgain()
      if (next === undefined) return
      presence = next
      log.info({ port: address.port }, 'embedded Postgres is back')
    }
  }

  async function enterAgain(): Promise<Presence | undefined> {
    let delayMs = RESTART_DELAY_MS.first
    while (!leaving.signal.aborted) {
      try {
        return await withLockFile(files.lock, LOCK_WAIT_MS, async () => {
          if (leaving.signal.aborted) return undefined
          const found = await findOrStartServer({ dataDir, durable, port: address.port })
          if (found.port === address.port) return openPresence(found)
          throw new EmbeddedPostgresError(`It now listens on port ${found.port}: start this process again.`)
        })
      } catch (error) {
        log.error({ err: error, retryInMs: delayMs }, 'embedded Postgres does not start')
      }
      await sleep(delayMs, undefined, { signal: leaving.signal }).catch(() => {})
      delayMs = Math.min(delayMs * 2, RESTART_DELAY_MS.most)
    }
    return undefined
  }

  async function leave(): Promise<void> {
    leaving.abort()
    await withLockFile(files.lock, LOCK_WAIT_MS, async () => {
      await presence.close()
      const running = await findServer(files)
      if (!running) return
      const others = await countOthers(running, presence)
      if (others > 0) return log.info({ others }, 'embedded Postgres stays up for others')
      await stopServer(dataDir)
      log.info('embedded Postgres is stopped')
    })
    await watching
  }

  let left: Promise<void> | undefined
  return {
    url: connectionUrl(address),
    stop: () => (left ??= leave()),
  }
}

async function prepareFolder(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
    return await realpath(path)
  } catch (error) {
    throw new ConfigError(
      `DATA_DIR: ${path} cannot be used (${error instanceof Error ? error.message : String(error)})`,
    )
  }
}
