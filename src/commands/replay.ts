import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../config.ts'
import { UsageError } from '../errors.ts'
import { classifyAgain } from '../inbox/classify-again.ts'
import { openDatabase } from '../services/database.ts'
import { openWorker } from '../services/worker.ts'
import { migrate } from '../store/migrations/migrate.ts'
import type { Queryable } from '../store/connection/queryable.ts'
import {
  type FailedEvent,
  type ReplaySelection,
  type SelectedEvents,
  countDeadConversations,
  countPendingEvents,
  countSelectedEvents,
  findUnknownEvents,
  readFailedEvents,
  readRevivedConversations,
  readSelectedEvents,
  replayWebhooks,
  reviveDeadConversations,
} from '../store/replay.ts'
import { type Output, printJson, table } from './output.ts'
import { type Progress, type TextStream, createProgress } from './progress.ts'

export interface ReplayOptions extends ReplaySelection {
  /** Conversations that were given up are due again. */
  dead: boolean
  /** Only tell what would be done. */
  dryRun: boolean
}

interface ReplayOutput extends Output {
  progress: TextStream
}

interface Replayed {
  webhooks: number
  failed: FailedEvent[]
  /** Ids that were asked for and are not in the inbox. */
  unknown: bigint[]
}

interface Revived {
  conversations: number
  unread: { id: string; lastError: string | null }[]
}

const LOOK_EVERY_MS = 250
/** What one statement is asked about at a time. */
const CHUNK = 1000
const MOST_SHOWN = 20

/**
 * Works stored webhooks into the tables again, as today's version understands them, and revives dead conversations;
 * waits for the outcome. Works beside a running service, and twice does no harm.
 */
export async function replay(config: Config, options: ReplayOptions, output: ReplayOutput): Promise<boolean> {
  const takesWebhooks = selectsWebhooks(options)
  if (!takesWebhooks && !options.dead) {
    throw new UsageError(
      'say what to replay: webhooks by --id, --since, --until, --kind or --failed; dead conversations by --dead',
    )
  }
  await using opened = await openDatabase(config, output.log)
  const { database } = opened
  await migrate(database.url, { log: output.log })
  const db = database.prisma

  const selected = takesWebhooks ? await countSelectedEvents(db, options) : NOTHING
  const unknown = await findUnknownEvents(db, options.ids)
  if (options.dryRun) {
    const dead = options.dead ? await countDeadConversations(db) : 0
    printPlan(output, { webhooks: selected.kinds, dead, unknown })
    return unknown.length === 0
  }

  const onlyChannelId = config.channels.length === 1 ? (config.channels[0]?.id ?? null) : null
  const replaying = await takeUpAgain(db, options, selected, onlyChannelId, output.progress)
  // Only now: a worker deletes what is past its retention, and that may be what is asked for.
  await using _worker = openWorker(config, database, output.log)
  const replayed = { ...(await untilApplied(db, replaying)), unknown }
  const revived = options.dead ? await revive(db, output.progress) : { conversations: 0, unread: [] }
  printOutcome(output, options, replayed, revived)
  return replayed.failed.length === 0 && unknown.length === 0 && revived.unread.length === 0
}

const NOTHING: SelectedEvents = { kinds: [], firstId: null, lastId: null }

function selectsWebhooks({ ids, since, until, kinds, failedOnly }: ReplaySelection): boolean {
  return ids.length > 0 || since !== null || until !== null || kinds.length > 0 || failedOnly
}

interface Replaying extends SelectedEvents {
  ids: readonly bigint[]
  progress: Progress
}

/** Makes the selected webhooks wait as if they had just come, batch by batch. */
async function takeUpAgain(
  db: Queryable,
  selection: ReplaySelection,
  selected: SelectedEvents,
  onlyChannelId: string | null,
  stream: TextStream,
): Promise<Replaying> {
  const { kinds, firstId, lastId } = selected
  const total = kinds.reduce((sum, kind) => sum + kind.total, 0)
  const progress = createProgress(stream, { total, unit: 'webhooks' })
  const ids: bigint[] = []
  if (firstId === null || lastId === null) return { ...selected, ids, progress }
  for (let afterId = firstId - 1n; ;) {
    const events = await readSelectedEvents(db, selection, { afterId, lastId })
    const last = events.at(-1)
    if (last === undefined) return { ...selected, ids, progress }
    afterId = last.id
    await replayWebhooks(
      db,
      events.map((event) => ({ id: event.id, ...classifyAgain(event, onlyChannelId) })),
    )
    for (const { id } of events) ids.push(id)
    progress.update(0, `${ids.length} taken up again`)
  }
}

async function untilApplied(
  db: Queryable,
  { ids, firstId, lastId, progress }: Replaying,
): Promise<Omit<Replayed, 'unknown'>> {
  if (firstId !== null && lastId !== null) {
    for (;;) {
      const pending = await countPendingEvents(db, firstId, lastId)
      progress.update(Math.max(0, ids.length - pending), '')
      if (pending === 0) break
      await sleep(LOOK_EVERY_MS)
    }
  }
  progress.stop()
  const failed: FailedEvent[] = []
  for (const chunk of chunksOf(ids)) failed.push(...(await readFailedEvents(db, chunk)))
  return { webhooks: ids.length, failed }
}

async function revive(db: Queryable, stream: TextStream): Promise<Revived> {
  const ids: string[] = []
  for (;;) {
    const revived = await reviveDeadConversations(db, ids.at(-1) ?? '', CHUNK)
    ids.push(...revived)
    if (revived.length < CHUNK) break
  }
  const progress = createProgress(stream, { total: ids.length, unit: 'conversations' })
  for (;;) {
    let open = 0
    const unread: Revived['unread'] = []
    for (const chunk of chunksOf(ids)) {
      const state = await readRevivedConversations(db, chunk)
      open += state.open
      unread.push(...state.unread)
    }
    progress.update(ids.length - open, '')
    if (open === 0) {
      progress.stop()
      return { conversations: ids.length, unread }
    }
    await sleep(LOOK_EVERY_MS)
  }
}

function* chunksOf<T>(items: readonly T[]): Generator<T[]> {
  for (let start = 0; start < items.length; start += CHUNK) yield items.slice(start, start + CHUNK)
}

interface Plan {
  webhooks: SelectedEvents['kinds']
  dead: number
  unknown: readonly bigint[]
}

function printPlan(output: Output, { webhooks, dead, unknown }: Plan): void {
  if (output.json) {
    return printJson(output, { dryRun: true, webhooks, deadConversations: dead, unknownIds: unknown })
  }
  const { out } = output
  if (webhooks.length === 0 && dead === 0) out.write('There is nothing to replay.\n')
  if (webhooks.length > 0) {
    out.write('Would replay\n')
    const rows = webhooks.map(({ kind, total, failed }) => [kind, total, failed])
    out.write(table([['kind', 'webhooks', 'with an error'], ...rows]))
  }
  if (dead > 0) out.write(`Would revive ${dead} dead conversation(s).\n`)
  printUnknown(output, unknown)
}

function printOutcome(output: Output, { dead }: ReplayOptions, replayed: Replayed, revived: Revived): void {
  const { webhooks, failed, unknown } = replayed
  const { conversations, unread } = revived
  if (output.json) {
    return printJson(output, {
      webhooks: { replayed: webhooks, succeeded: webhooks - failed.length, failed },
      conversations: { revived: conversations, read: conversations - unread.length, unread },
      unknownIds: unknown,
    })
  }
  const { out } = output
  if (webhooks > 0) {
    const outcome = failed.length === 0 ? 'none has an error' : `${failed.length} still with an error`
    out.write(`Replayed ${webhooks} webhook(s), ${outcome}.\n`)
    out.write(list(failed.map(({ id, kind, error }) => `${id}  ${kind}  ${error}`)))
  }
  if (conversations > 0) {
    out.write(`Revived ${conversations} conversation(s), ${conversations - unread.length} could be read.\n`)
    out.write(list(unread.map(({ id, lastError }) => `${id}  ${lastError ?? 'not tried yet'}`)))
  } else if (dead) out.write('No conversation is dead.\n')
  if (webhooks === 0 && !dead && unknown.length === 0) out.write('No webhook matches.\n')
  printUnknown(output, unknown)
}

function printUnknown({ out }: Output, unknown: readonly bigint[]): void {
  if (unknown.length > 0) out.write(`Not in the inbox (any more): ${unknown.join(', ')}\n`)
}

function list(lines: readonly string[]): string {
  const more = lines.length > MOST_SHOWN ? [`and ${lines.length - MOST_SHOWN} more`] : []
  return [...lines.slice(0, MOST_SHOWN), ...more].map((line) => `  ${line}\n`).join('')
}
