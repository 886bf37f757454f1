import type { Config } from '../config.ts'
import { openDatabase } from '../services/database.ts'
import { pendingMigrations } from '../store/migrations/migrate.ts'
import { type SyncStatus, readStatus } from '../store/status.ts'
import { type Output, printJson, table } from './output.ts'

/** Shows what is stored, what is behind, and what fails and why. */
export async function status(config: Config, output: Output): Promise<boolean> {
  await using opened = await openDatabase(config, output.log)
  const pending = await pendingMigrations(opened.database.pool)
  if (pending.length > 0) {
    if (output.json) printJson(output, { pendingMigrations: pending })
    else output.out.write(`The tables are not up to date; run kommo-sync migrate (${pending.join(', ')}).\n`)
    return false
  }
  const facts = await readStatus(opened.database.prisma)
  if (output.json) printJson(output, facts)
  else output.out.write(layOut(facts, config.requestsPerSecond))
  return true
}

function layOut(facts: SyncStatus, requestsPerSecond: number): string {
  const sections = [
    ['Conversations', conversationsIn(facts)],
    ['Messages', messagesIn(facts)],
    ['Webhooks', webhooksIn(facts)],
    [`Channels, ${requestsPerSecond} requests/s each`, channelsIn(facts)],
    ['Processes seen within the last minute', replicasIn(facts)],
    ['Failing or dead, the latest first', failingIn(facts)],
  ] as const
  return sections
    .filter(([, content]) => content !== '')
    .map(([heading, content]) => `${heading}\n${content}`)
    .join('\n')
}

function conversationsIn({ conversations, at }: SyncStatus): string {
  const { oldestBehind } = conversations
  const behind = table([
    ['stored', conversations.total],
    ['history complete', conversations.complete],
    ['behind', conversations.behind],
    ['failing', conversations.failing],
    ['dead', conversations.dead],
  ])
  if (oldestBehind === null) return behind
  return `${behind}  behind for longest: ${oldestBehind.id}, ${ageOf(oldestBehind.since, at)}\n`
}

function messagesIn({ messages }: SyncStatus): string {
  const rows = [
    ['stored', 'total', messages.total],
    ['with media', 'withMedia', messages.withMedia],
    ['gone from Kommo', 'missing', messages.missing],
    ['earlier wordings', 'revisions', messages.revisions],
  ] as const
  const about = (name: string) => (messages.estimated.includes(name) ? ['about'] : [])
  return table(rows.map(([label, name, count]) => [label, count, ...about(name)]))
}

function webhooksIn({ webhooks, webhooksEstimated, oldestWaiting, at }: SyncStatus): string {
  if (webhooks.length === 0) return '  none yet\n'
  const rows = table([
    ['kind', webhooksEstimated ? 'received, about' : 'received', 'waiting', 'with an error'],
    ...webhooks.map(({ kind, total, pending, failed }) => [kind, total, pending, failed]),
  ])
  return oldestWaiting === null ? rows : `${rows}  waiting for longest: ${ageOf(oldestWaiting, at)}\n`
}

function channelsIn({ channels }: SyncStatus): string {
  return channels
    .map(({ channelId, blockedUntil, reason, queuedMs }) => {
      if (blockedUntil !== null) {
        return `  ${channelId}  not to be asked until ${blockedUntil.toISOString()}\n${wrapped(reason ?? '')}`
      }
      const queue = queuedMs < 1000 ? '' : `, requests reserved for ${Math.ceil(queuedMs / 1000)} s ahead`
      return `  ${channelId}  free${queue}\n`
    })
    .join('')
}

function replicasIn({ replicas, at }: SyncStatus): string {
  if (replicas.length === 0) return '  none\n'
  return table(replicas.map(({ id, role, startedAt }) => [id, role, `up ${ageOf(startedAt, at)}`]))
}

function failingIn({ failing, conversations, at }: SyncStatus): string {
  const more = conversations.failing + conversations.dead - failing.length
  const entries = failing.map(({ id, attempts, lastError, deadAt, runAfter }) => {
    const nextMs = runAfter.getTime() - at.getTime()
    const next = nextMs > 0 ? `next in ${duration(nextMs)}` : 'due now'
    const state = deadAt === null ? `attempt ${attempts}, ${next}` : `dead for ${ageOf(deadAt, at)}`
    return `  ${id}  ${state}\n${wrapped(lastError ?? '')}`
  })
  return [...entries, ...(more > 0 ? [`  and ${more} more\n`] : [])].join('')
}

const WIDTH = 76
const MOST_LINES = 3

/** A long reason below what it belongs to; its end is in `--json` and in the table. */
function wrapped(text: string): string {
  const lines: string[] = []
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    const line = lines.at(-1)
    if (line === undefined || line.length + 1 + word.length > WIDTH) lines.push(word.slice(0, WIDTH))
    else lines[lines.length - 1] = `${line} ${word}`
  }
  const shown = lines.slice(0, MOST_LINES)
  if (lines.length > MOST_LINES) shown.push('…')
  return shown.map((line) => `    ${line}\n`).join('')
}

function ageOf(since: Date, at: Date): string {
  return duration(at.getTime() - since.getTime())
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
] as const

/** In the largest unit that it has two of. */
function duration(ms: number): string {
  const [unit, unitMs] = UNITS.find(([, size]) => ms >= 2 * size) ?? ['s', 1000]
  return `${Math.max(0, Math.round(ms / unitMs))} ${unit}`
}
