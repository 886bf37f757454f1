import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Pool } from 'pg'
import { startEmbeddedPostgres } from '../src/embedded/postgres.ts'
import { migrate } from '../src/store/migrations/migrate.ts'
import { GENERATED, generateMessages } from './generated-messages.ts'

// How long does each query of docs/sql.md, and each view by its usual filters, take on a million messages?
//   node bench/sql-queries.ts [--messages 1000000] [--rounds 5]
// A full run keeps the plans in bench/plans. DATABASE_URL names an empty database to use instead of the
// embedded one, or one that an earlier run has filled.

const FULL = 1_000_000
const LIMIT_MS = 200

const { values } = parseArgs({
  options: { messages: { type: 'string', default: String(FULL) }, rounds: { type: 'string', default: '5' } },
})
const messages = Number(values.messages)
const rounds = Number(values.rounds)

const { conversationId, clientId } = GENERATED
const FILTERED_VIEWS = [
  ['transcript', 'one chat', `WHERE conversation_id = '${conversationId}' ORDER BY sent_at DESC LIMIT 50`],
  ['transcript', 'one client', `WHERE client_id = '${clientId}' ORDER BY sent_at DESC LIMIT 50`],
  ['transcript', 'a day', `WHERE sent_at >= now() - interval '1 day'`],
  ['transcript', 'latest 50', `ORDER BY sent_at DESC LIMIT 50`],
  ['conversation_overview', 'one chat', `WHERE conversation_id = '${conversationId}'`],
  ['conversation_overview', 'one client', `WHERE client_id = '${clientId}'`],
  ['conversation_overview', 'active today', `WHERE last_message_at >= now() - interval '1 day'`],
  ['conversation_overview', 'latest 50', `ORDER BY last_message_at DESC LIMIT 50`],
  [
    'response_times',
    'one chat',
    `WHERE conversation_id = '${conversationId}' ORDER BY asked_at DESC LIMIT 50`,
  ],
  ['response_times', 'one client', `WHERE client_id = '${clientId}' ORDER BY asked_at DESC LIMIT 50`],
  ['response_times', 'a week', `WHERE asked_at >= now() - interval '7 days'`],
  ['response_times', 'latest 50', `ORDER BY asked_at DESC LIMIT 50`],
  ['media_overview', 'one chat', `WHERE conversation_id = '${conversationId}'`],
  ['media_overview', 'one client', `WHERE client_id = '${clientId}'`],
  ['media_overview', 'a week', `WHERE sent_at >= now() - interval '7 days'`],
  ['media_overview', 'latest 50', `ORDER BY sent_at DESC LIMIT 50`],
  ['reactions', 'one chat', `WHERE conversation_id = '${conversationId}'`],
  ['daily_activity', '30 days', `WHERE day >= current_date - 30`],
  ['sync_health', 'whole', ``],
] as const

const DOCUMENT = new URL('../docs/sql.md', import.meta.url)
const PLANS = new URL('plans/', import.meta.url)

/** The queries of the document, with ids behind which there is something here. */
async function documentedQueries(): Promise<{ name: string; sql: string }[]> {
  const markdown = await readFile(DOCUMENT, 'utf8')
  return [...markdown.matchAll(/^### (\d+\. [^\n]*)\n[^#]*?```sql\n([^]*?);\n```/gm)].map(
    ([, name = '', sql = '']) => ({
      name,
      sql: sql.replaceAll(/'client-10\d'/g, `'${clientId}'`).replaceAll(`'chat-ivan'`, `'${conversationId}'`),
    }),
  )
}

interface Measured {
  ms: number
  /** Of the server process alone: on a machine that is shared it says more than the clock. `NaN` where it is not known. */
  cpuMs: number
  rows: number
}

async function measureQuery(pool: Pool, pid: number, sql: string): Promise<Measured> {
  const times: number[] = []
  const cpuTimes: number[] = []
  let rows = 0
  for (let round = 0; round <= rounds; round += 1) {
    const [start, cpuStart] = [performance.now(), await cpuMsOf(pid)]
    rows = (await pool.query({ text: sql, rowMode: 'array' })).rows.length
    // The first one warms the cache.
    if (round === 0) continue
    times.push(performance.now() - start)
    cpuTimes.push((await cpuMsOf(pid)) - cpuStart)
  }
  return { ms: median(times), cpuMs: median(cpuTimes), rows }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN
}

async function cpuMsOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/schedstat`, 'utf8').catch(() => '')
  return text === '' ? Number.NaN : Number(text.split(' ')[0]) / 1e6
}

async function keepPlan(pool: Pool, name: string, sql: string): Promise<void> {
  const { rows } = await pool.query<[string]>({ text: `EXPLAIN (ANALYZE, BUFFERS) ${sql}`, rowMode: 'array' })
  const slug = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/-$/, '')
  const plan = rows.map(([line]) => line).join('\n')
  await writeFile(new URL(`${slug}.txt`, PLANS), `${sql}\n\n${plan}\n`)
}

async function main(pool: Pool): Promise<void> {
  const { rows: known } = await pool.query<{ some: boolean }>(
    'SELECT EXISTS (SELECT FROM kommo.messages) AS some',
  )
  const start = performance.now()
  if (known[0]?.some !== true) await generateMessages(pool, messages)
  await pool.query(`
    CREATE TABLE IF NOT EXISTS public.customers AS
      SELECT client_id, 'Company ' || name AS company, 'plus' AS plan FROM kommo.participants
      WHERE client_id IS NOT NULL ORDER BY id LIMIT 500`)
  await pool.query('ANALYZE public.customers')
  // No helpers beside it: their time would not be in the server process's own.
  await pool.query('SET max_parallel_workers_per_gather = 0')
  const { rows: backend } = await pool.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const pid = backend[0]?.pid ?? 0
  console.log(
    `${messages} messages made in ${Math.round((performance.now() - start) / 1000)} s; medians of ${rounds}`,
  )
  console.log(`${''.padEnd(50)} ${'clock'.padStart(11)} ${'processor'.padStart(11)} ${'rows'.padStart(8)}`)

  const statements = [
    ...(await documentedQueries()),
    ...FILTERED_VIEWS.map(([view, what, clause]) => ({
      name: `${view}, ${what}`,
      sql: `SELECT * FROM kommo.${view} ${clause}`.trim(),
    })),
  ]
  if (messages === FULL) await mkdir(PLANS, { recursive: true })
  let over = 0
  for (const { name, sql } of statements) {
    const { ms, cpuMs, rows } = await measureQuery(pool, pid, sql)
    if (messages === FULL) await keepPlan(pool, name, sql)
    if (ms > LIMIT_MS) over += 1
    const mark = ms > LIMIT_MS ? `  over ${LIMIT_MS} ms` : ''
    const [clock, processor] = [ms, cpuMs].map((n) => `${n.toFixed(1)} ms`.padStart(11))
    console.log(`${name.padEnd(50)} ${clock} ${processor} ${String(rows).padStart(8)}${mark}`)
  }
  console.log(`${statements.length - over} of ${statements.length} within ${LIMIT_MS} ms`)
}

async function withEmbedded(work: (url: string) => Promise<void>): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'kommo-sync-bench-'))
  const log = { info() {}, warn() {}, error() {} }
  const server = await startEmbeddedPostgres({ dataDir, log })
  try {
    await work(server.url)
  } finally {
    await server.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}

async function measure(url: string): Promise<void> {
  await migrate(url)
  const pool = new Pool({ connectionString: url, max: 1 })
  try {
    await main(pool)
  } finally {
    await pool.end()
  }
}

const given = process.env['DATABASE_URL']
await (given === undefined ? withEmbedded(measure) : measure(given))
