import { randomUUID } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { EmbeddedPostgresError } from './errors.ts'
import { isAlive } from './process.ts'

const POLL_MS = 50

/**
 * Runs one step at a time among processes that share a folder. The file holds the owner's process id; what a killed
 * owner left behind is taken over.
 */
export async function withLockFile<T>(path: string, waitMs: number, step: () => Promise<T>): Promise<T> {
  const own = await acquire(path, waitMs)
  try {
    return await step()
  } finally {
    if ((await readText(path)) === own) await rm(path, { force: true })
  }
}

async function acquire(path: string, waitMs: number): Promise<string> {
  const token = `${process.pid} ${randomUUID()}`
  const draft = `${path}.${randomUUID()}`
  const deadline = performance.now() + waitMs
  // Written first, then linked: the lock appears at once and never without its owner.
  await writeFile(draft, token, { mode: 0o600 })
  try {
    while (!(await tryLink(draft, path))) {
      const holder = await readText(path)
      if (holder === undefined) continue
      const owner = Number.parseInt(holder, 10)
      if (!(await isAlive(owner))) {
        await removeStale(path, holder)
        continue
      }
      if (performance.now() >= deadline) {
        throw new EmbeddedPostgresError(
          `Process ${owner} has been holding ${path} for ${Math.round(waitMs / 1000)} s. ` +
            `If that process is not this service, delete the file.`,
          { retryable: true },
        )
      }
      await sleep(POLL_MS)
    }
    return token
  } finally {
    await rm(draft, { force: true })
  }
}

async function tryLink(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

/** Moved aside and looked at again: two who find the same stale file must not remove the fresh one of the first. */
async function removeStale(path: string, stale: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`
  try {
    await rename(path, aside)
  } catch {
    return // somebody else moved it
  }
  if ((await readText(aside)) !== stale) await tryLink(aside, path)
  await rm(aside, { force: true })
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return undefined
  }
}
