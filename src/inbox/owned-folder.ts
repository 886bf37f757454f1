import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises'
import { type Server, connect, createServer } from 'node:net'
import { join, relative } from 'node:path'
import { ConfigError } from '../errors.ts'
import { syncFolder } from './sync-folder.ts'

export interface OwnedFolder {
  path: string
  /** Gives the folder up: it is removed if it is empty, or left to the next process. */
  close(): Promise<void>
}

/**
 * The system closes this socket with its process, however that ends. Unlike a process id it also tells a neighbour in
 * another container from a dead one.
 */
const SIGN_OF_LIFE = 'alive'

/** What fits the address of a socket on every system (104 bytes on BSD), less its final zero. */
const MOST_ADDRESS_BYTES = 103

/**
 * Makes a folder inside `parent` for this process alone, and moves the files of dead processes into it. Several processes
 * may share `parent`.
 * @throws ConfigError when the folder cannot be used.
 */
export async function ownFolder(parent: string): Promise<OwnedFolder> {
  try {
    await mkdir(parent, { recursive: true, mode: 0o700 })
    const name = randomUUID().slice(0, 8)
    const path = join(parent, name)
    // Made under a name that nobody looks at: a folder is never seen without its sign of life.
    const draft = join(parent, `.${name}`)
    await mkdir(draft, { mode: 0o700 })
    const sign = await listenOn(addressOf(draft))
    await rename(draft, path)
    await adoptFiles(parent, path)
    await syncFolder(path)
    await syncFolder(parent)
    return {
      path,
      async close() {
        await rm(join(path, SIGN_OF_LIFE), { force: true })
        await rmdir(path).catch(() => {})
        await new Promise((resolve) => sign.close(resolve))
      },
    }
  } catch (error) {
    if (error instanceof ConfigError) throw error
    throw new ConfigError(
      `DATA_DIR: ${parent} cannot be used (${error instanceof Error ? error.message : String(error)})`,
    )
  }
}

async function adoptFiles(parent: string, own: string): Promise<void> {
  for (const entry of await readdir(parent, { withFileTypes: true })) {
    const folder = join(parent, entry.name)
    if (!entry.isDirectory() || entry.name.startsWith('.') || folder === own) continue
    if (await isOwned(folder)) continue
    for (const file of await readdir(folder).catch(() => [])) {
      // A rename that fails: another process that has just started was first.
      if (file !== SIGN_OF_LIFE) await rename(join(folder, file), join(own, file)).catch(() => {})
    }
    await rm(join(folder, SIGN_OF_LIFE), { force: true })
    await rmdir(folder).catch(() => {})
  }
}

/** In doubt, yes: what a living process still writes must not be taken from it. */
async function isOwned(folder: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(addressOf(folder))
  socket.once('connect', () => resolve(true))
  socket.once('error', (error) => {
    const code = 'code' in error ? error.code : undefined
    resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT')
  })
  const owned = await promise
  socket.destroy()
  return owned
}

async function listenOn(address: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy())
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  // Stays: a connection that could not be accepted later must not end the process.
  server.on('error', reject)
  server.listen(address, resolve)
  await promise
  server.unref()
  return server
}

/** The shorter of the two ways to write it. */
function addressOf(folder: string): string {
  const absolute = join(folder, SIGN_OF_LIFE)
  const fromHere = relative(process.cwd(), absolute)
  const address = Buffer.byteLength(fromHere) < Buffer.byteLength(absolute) ? fromHere : absolute
  if (Buffer.byteLength(address) <= MOST_ADDRESS_BYTES) return address
  throw new ConfigError(
    `DATA_DIR: the path is too long by ${Buffer.byteLength(address) - MOST_ADDRESS_BYTES} bytes`,
  )
}
