import { cpus, loadavg, release, totalmem } from 'node:os'
import { readFileSync } from 'node:fs'
import { Client } from 'pg'
import { z } from 'zod'

export interface Machine {
  cores: number
  processor: string
  memoryGiB: number
  kernel: string
  node: string
  postgres: string
  postgresSettings: string
  packages: string
  /** Of the minute before. */
  load: number
  at: string
}

const manifest = z.object({ version: z.string() })
const PACKAGES = ['fastify', 'pg', '@prisma/client', '@prisma/adapter-pg', 'undici']
const SETTINGS = ['fsync', 'synchronous_commit', 'shared_buffers', 'max_wal_size']

export async function describeMachine(databaseUrl: string): Promise<Machine> {
  const client = new Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const { rows } = await client.query<{ version: string; settings: string }>(
      `SELECT current_setting('server_version') AS version,
        (SELECT string_agg(name || ' ' || current_setting(name), ', ') FROM unnest($1::text[]) AS name) AS settings`,
      [SETTINGS],
    )
    const [processor] = cpus()
    return {
      cores: cpus().length,
      processor: processor?.model.trim() ?? '',
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      kernel: release(),
      node: process.version,
      postgres: rows[0]?.version ?? '',
      postgresSettings: rows[0]?.settings ?? '',
      packages: PACKAGES.map((name) => `${name} ${versionOf(name)}`).join(', '),
      load: loadavg()[0] ?? 0,
      at: new Date().toISOString(),
    }
  } finally {
    await client.end()
  }
}

function versionOf(name: string): string {
  const path = new URL(`../../node_modules/${name}/package.json`, import.meta.url)
  return manifest.parse(JSON.parse(readFileSync(path, 'utf8'))).version
}

/** Processor seconds that the machine has used so far, whoever asked for them. */
export function machineSeconds(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000
}
