import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Looks at the embedded server of a service without taking part in it: whoever joins it would start it again. */

/** The process of the server that runs, or ran last, in the folder. */
export async function postmasterOf(dataDir: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'), 10)
}

export async function databaseUrlOf(dataDir: string): Promise<string> {
  const [port, password] = await Promise.all(
    ['postgres.port', 'postgres.password'].map((name) => readFile(join(dataDir, name), 'utf8')),
  )
  return `postgresql://kommo:${encodeURIComponent(password?.trim() ?? '')}@127.0.0.1:${port?.trim() ?? ''}/kommo`
}

export function isAlive(pid: number): boolean {
  if (pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
