import { readFile, readlink, realpath } from 'node:fs/promises'

/** A zombie counts as dead: in a container nobody may ever collect it. */
export async function isAlive(pid: number): Promise<boolean> {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: it lives, under another user.
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return false
  }
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    return !/^\d+ \(.*\) [ZX]/s.test(stat)
  } catch {
    return process.platform !== 'linux'
  }
}

/** Postgres works inside its data folder. Where that cannot be seen (no `/proc`), a living process is believed. */
export async function worksIn(pid: number, folder: string): Promise<boolean> {
  if (!(await isAlive(pid))) return false
  try {
    return (await readlink(`/proc/${pid}/cwd`)) === (await realpath(folder))
  } catch {
    return true
  }
}

export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It is gone already.
  }
}
