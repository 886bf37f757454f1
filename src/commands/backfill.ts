import { setTimeout as sleep } from 'node:timers/promises'
import { formatScopeId, parseScopeId } from '../domain/scope.ts'
import type { Config } from '../config.ts'
import { UsageError } from '../errors.ts'
import { openDatabase } from '../services/database.ts'
import { openWorker } from '../services/worker.ts'
import { callForAllHistories, onlyKnownScope, readBackfillProgress } from '../store/backfill.ts'
import { callForSync } from '../store/conversations.ts'
import { migrate } from '../store/migrations/migrate.ts'
import type { Queryable } from '../store/connection/queryable.ts'
import { type Output, printJson } from './output.ts'
import { type Progress, type TextStream, createProgress } from './progress.ts'

export interface Selection {
  ids: readonly string[]
  all: boolean
  /** For conversations that are not known yet. */
  scopeId: string | null
}

interface BackfillOutput extends Output {
  progress: TextStream
}

const LOOK_EVERY_MS = 500

/**
 * Reads whole histories again and waits until they are stored. Works beside a running service: the two share the
 * conversations and the rate.
 */
export async function backfill(
  config: Config,
  selection: Selection,
  output: BackfillOutput,
): Promise<boolean> {
  if (selection.all === selection.ids.length > 0) {
    throw new UsageError(
      'name the conversations to read, or --all (not both): backfill ID… or backfill --all',
    )
  }
  if (selection.scopeId !== null && !hasChannel(config, selection.scopeId)) {
    throw new UsageError(
      '--scope belongs to no configured channel; it is the channel id, an underscore, the account id',
    )
  }
  await using opened = await openDatabase(config, output.log)
  const { database } = opened
  await migrate(database.url, { log: output.log })

  const total = await call(database.prisma, selection)
  await using _worker = openWorker(config, database, output.log)
  const progress = createProgress(output.progress, { total, unit: 'conversations' })
  const dead = await waitUntilDone(database.prisma, selection, total, progress)
  progress.stop()

  if (output.json) printJson(output, { conversations: total, complete: total - dead.length, dead })
  else {
    output.out.write(`Read ${total - dead.length} of ${total} conversations to their oldest message.\n`)
    for (const { id, lastError } of dead) output.out.write(`  ${id}  ${lastError ?? 'given up'}\n`)
  }
  return dead.length === 0
}

async function call(db: Queryable, { ids, all, scopeId }: Selection): Promise<number> {
  if (all) return callForAllHistories(db)
  const scope = scopeId === null ? await onlyKnownScope(db) : formatScopeId(parseScopeId(scopeId))
  for (const conversationId of ids) {
    if (await callForSync(db, { conversationId, scopeId: scope, full: true, patient: false })) continue
    throw new UsageError(`conversation ${conversationId} is not known yet: add --scope CHANNEL_ACCOUNT`)
  }
  return new Set(ids).size
}

async function waitUntilDone(db: Queryable, { ids, all }: Selection, total: number, progress: Progress) {
  for (;;) {
    const { open, dead, walked } = await readBackfillProgress(db, all ? null : ids)
    progress.update(total - open, walked > 0 ? `${walked} messages into those under way` : '')
    if (open === 0) return dead
    await sleep(LOOK_EVERY_MS)
  }
}

function hasChannel({ channels }: Config, scopeId: string): boolean {
  return channels.some(({ id }) => id === parseScopeId(scopeId).channelId.toLowerCase())
}
