import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Pool } from 'pg'
import { readRecords } from '../../src/inbox/spool-record.ts'

export interface Spooled {
  bodies: string[]
  /** Bytes that are no whole record. */
  torn: number
  corrupt: number
}

/** The bodies, in hex, that are on disk in a service's `DATA_DIR`. */
export async function readSpool(dataDir: string): Promise<Spooled> {
  const folder = join(dataDir, 'spool')
  const names = await readdir(folder, { recursive: true })
  const seen: Spooled = { bodies: [], torn: 0, corrupt: 0 }
  for (const name of names.filter((each) => each.endsWith('.spool')).toSorted()) {
    const { webhooks, tornBytes, corrupt } = readRecords(await readFile(join(folder, name)))
    seen.bodies.push(...webhooks.map(({ body }) => Buffer.from(body).toString('hex')))
    seen.torn += tornBytes
    seen.corrupt += corrupt
  }
  return seen
}

/**
 * The bodies, in hex and in order, that a service has left behind: in the database, and behind those on disk, where a machine
 * that was too busy to commit in time had it put the last of them for the next start.
 */
export async function keptBodies(pool: Pool, { dataDir }: { dataDir: string }): Promise<string[]> {
  const { rows } = await pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events ORDER BY id')
  const stored = rows.map(({ body }) => body.toString('hex'))
  // What was just drained may still be there.
  const left = (await readSpool(dataDir)).bodies.filter((body) => !stored.includes(body))
  return [...stored, ...left]
}
