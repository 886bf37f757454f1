import type { Config } from '../config.ts'
import { AppError, UsageError } from '../errors.ts'
import { openDatabase } from '../services/database.ts'
import { openHistory } from '../services/history.ts'
import { pendingMigrations } from '../store/migrations/migrate.ts'
import type { Queryable } from '../store/connection/queryable.ts'
import {
  type KnownConversation,
  drawConversations,
  findConversations,
  readDatabaseTime,
} from '../store/verify.ts'
import {
  type Verification,
  type VerifyDependencies,
  verifyConversation,
} from '../sync/verify-conversation.ts'
import { type Output, printJson } from './output.ts'
import { type TextStream, createProgress } from './progress.ts'

export interface VerifySelection {
  ids: readonly string[]
  all: boolean
  /** So many of all, drawn at random; `null` for each. */
  sample: number | null
}

interface VerifyOutput extends Output {
  progress: TextStream
}

/** What is kept of a verification: counts, and a bounded number of ids. */
interface Verified {
  id: string
  same: boolean
  inKommo: number
  stored: number
  missing: number
  missingRecords: number
  different: number
  /** Columns that differ in any message. */
  fields: string[]
  gone: number
  /** Those of `gone` that are not marked so yet. */
  goneUnmarked: number
  newer: number
  missingIds: string[]
  differences: Verification['different']
  goneIds: Verification['gone']
}

interface Unreadable {
  id: string
  same: false
  error: string
}

type Result = Verified | Unreadable

/** Ids of a conversation of which nothing is stored would fill the screen and the memory. */
const MOST_LISTED = 100

/**
 * Reads whole histories and compares them with the tables, writing nothing to them. One request at a time, so that a
 * service that shares the rate hardly feels it.
 */
export async function verify(
  config: Config,
  selection: VerifySelection,
  output: VerifyOutput,
): Promise<boolean> {
  if (selection.all === selection.ids.length > 0) {
    throw new UsageError('name the conversations to verify, or --all (not both): verify ID… or verify --all')
  }
  if (selection.sample !== null && !selection.all) throw new UsageError('--sample belongs to --all')
  await using opened = await openDatabase(config, output.log)
  const { database } = opened
  const pending = await pendingMigrations(database.pool)
  if (pending.length > 0) {
    throw new AppError(`the tables are not up to date; run kommo-sync migrate (${pending.join(', ')})`, {
      code: 'pending_migrations',
      retryable: false,
    })
  }

  const db = database.prisma
  const conversations = await select(db, selection)
  await using opening = openHistory(config, db)
  const results = await verifyEach(conversations, { db, history: opening.history }, output)
  const differing = results.filter(({ same }) => !same).length
  if (output.json) printJson(output, { conversations: results.length, differing, results })
  else output.out.write(layOut(results, differing))
  return differing === 0
}

async function select(db: Queryable, { ids, all, sample }: VerifySelection): Promise<KnownConversation[]> {
  if (all) return drawConversations(db, sample)
  const known = await findConversations(db, ids)
  const unknown = ids.find((id) => !known.some((conversation) => conversation.id === id))
  if (unknown === undefined) return known
  throw new UsageError(`conversation ${unknown} is not known: read it first, with backfill ${unknown}`)
}

async function verifyEach(
  conversations: readonly KnownConversation[],
  dependencies: VerifyDependencies,
  output: VerifyOutput,
): Promise<Result[]> {
  const startedAt = await readDatabaseTime(dependencies.db)
  const { signal } = new AbortController()
  const progress = createProgress(output.progress, { total: conversations.length, unit: 'conversations' })
  const results: Result[] = []
  let differing = 0
  try {
    for (const conversation of conversations) {
      const result = await verifyOne(conversation, startedAt, dependencies, signal)
      results.push(result)
      if (!result.same) differing += 1
      progress.update(results.length, differing > 0 ? `${differing} with a difference` : '')
    }
  } finally {
    progress.stop()
  }
  return results
}

async function verifyOne(
  conversation: KnownConversation,
  startedAt: Date,
  dependencies: VerifyDependencies,
  signal: AbortSignal,
): Promise<Result> {
  const { id } = conversation
  try {
    return summarize(id, await verifyConversation(conversation, startedAt, dependencies, signal))
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { id, same: false, error: error.message }
  }
}

function summarize(id: string, found: Verification): Verified {
  const { inKommo, stored, missing, missingRecords, different, gone, newer } = found
  const goneUnmarked = gone.filter(({ missingSince }) => missingSince === null).length
  return {
    id,
    same: missing.length + missingRecords + different.length + goneUnmarked === 0,
    inKommo,
    stored,
    missing: missing.length,
    missingRecords,
    different: different.length,
    fields: [...new Set(different.flatMap(({ fields }) => fields))],
    gone: gone.length,
    goneUnmarked,
    newer,
    missingIds: missing.slice(0, MOST_LISTED),
    differences: different.slice(0, MOST_LISTED),
    goneIds: gone.slice(0, MOST_LISTED),
  }
}

function layOut(results: readonly Result[], differing: number): string {
  if (results.length === 0) return 'No conversation is known yet.\n'
  const messages = results.reduce((sum, result) => sum + ('error' in result ? 0 : result.inKommo), 0)
  const lines = results.map((result) => `  ${result.id}  ${describe(result)}\n`)
  const outcome = differing === 0 ? 'all as in Kommo' : `${differing} with a difference`
  return `${lines.join('')}Verified ${results.length} conversation(s), ${messages} messages in Kommo: ${outcome}.\n`
}

function describe(result: Result): string {
  if ('error' in result) return `cannot be read: ${result.error}`
  const counts = [
    [result.missing, 'missing'],
    [result.missingRecords, 'record(s) without an id missing'],
    [result.different, `different (${result.fields.join(', ')})`],
    [result.goneUnmarked, 'gone and not marked'],
    [result.gone - result.goneUnmarked, 'gone'],
    [result.newer, 'newer'],
  ] as const
  const told = counts.filter(([count]) => count > 0).map(([count, word]) => `, ${count} ${word}`)
  return `${result.same ? 'same' : 'DIFFERS'}  ${result.inKommo} in Kommo, ${result.stored} stored${told.join('')}`
}
