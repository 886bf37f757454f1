import { setTimeout as sleep } from 'node:timers/promises'
import type { Walk } from '../domain/conversation.ts'
import { mergeMessages } from '../domain/merge.ts'
import type { MappedRecord, Message } from '../domain/message.ts'
import { AppError } from '../errors.ts'
import { HISTORY_PAGE_SIZE } from '../kommo/client.ts'
import { KommoHttpError } from '../kommo/errors.ts'
import type { Queryable } from '../store/connection/queryable.ts'
import {
  type KnownConversation,
  type StoredMessage,
  type WalkedMessage,
  countUnkeptRecords,
  isBeingSynced,
  readStoredMessages,
  readWalkedMessages,
} from '../store/verify.ts'
import { backoffMs } from './backoff.ts'
import { differingFields } from './differing-fields.ts'
import type { HistoryReader, PageAddress } from './history-reader.ts'
import { recordKey } from './record-key.ts'
import { createWalkGuard } from './walk-guard.ts'
import { walkStep } from './walk-step.ts'

export interface VerifyDependencies {
  db: Queryable
  history: HistoryReader
}

export interface Verification {
  /** Messages that Kommo's history has. */
  inKommo: number
  /** Those of them that are stored, as they are in Kommo or not. */
  stored: number
  /** In Kommo, and not stored. */
  missing: string[]
  /** Records without a usable message id that are not kept. */
  missingRecords: number
  different: { id: string; fields: string[] }[]
  /** Stored, once seen in the history, and no longer there: a difference while `missingSince` is NULL. */
  gone: WalkedMessage[]
  /** Not stored yet, and written after the verification began: no difference. */
  newer: number
}

const MAX_ATTEMPTS = 5
/** A longer wait for the channel is for the operator to decide. */
const LONGEST_WAIT_MS = 60_000
/** How long a sync under way may take to store what this walk has seen already. */
const SYNC_GRACE_MS = 10_000
const LOOK_EVERY_MS = 250
const CHUNK = 1000

/**
 * Walks a conversation's whole history and compares it with what is stored, without changing it. Requests go through
 * the shared rate, and a refusal is told to everybody that shares it.
 *
 * @param startedAt by the database's clock: what is written or stored later is left out of the comparison
 */
export async function verifyConversation(
  { id, scopeId }: KnownConversation,
  startedAt: Date,
  dependencies: VerifyDependencies,
  signal: AbortSignal,
): Promise<Verification> {
  const { db } = dependencies
  const seen = new Set<string>()
  /** What is not stored as it was seen; looked at again at the end. */
  const open = new Map<string, Message>()
  let missingRecords = 0

  for await (const records of walk({ id, scopeId }, dependencies, signal)) {
    const messages = mergeMessages(
      records.flatMap((record) => (record.kind === 'mapped' ? [record.message] : [])),
    )
    const stored = await readStoredMessages(
      db,
      messages.map((message) => message.id),
    )
    for (const message of messages) {
      seen.add(message.id)
      // A page that is read again may show an edit.
      if (compare(message, stored.get(message.id), startedAt) === 'same') open.delete(message.id)
      else open.set(message.id, message)
    }
    missingRecords += await countUnkeptRecords(db, id, records)
  }

  await waitForSync(db, id, open, startedAt, signal)
  const verification: Verification = {
    inKommo: seen.size,
    stored: seen.size,
    missing: [],
    missingRecords,
    different: [],
    gone: await findGone(db, id, seen, startedAt),
    newer: 0,
  }
  const stored = await readAll(db, [...open.keys()])
  for (const message of open.values()) {
    const comparison = compare(message, stored.get(message.id), startedAt)
    if (comparison === 'same') continue
    if (comparison !== 'missing') verification.different.push({ id: message.id, fields: comparison })
    else {
      verification.stored -= 1
      if (message.sentAt !== null && message.sentAt >= startedAt) verification.newer += 1
      else verification.missing.push(message.id)
    }
  }
  return verification
}

function compare(
  seen: Message,
  stored: StoredMessage | undefined,
  startedAt: Date,
): 'same' | 'missing' | string[] {
  if (stored === undefined) return 'missing'
  const fields = stored.missingSince !== null && stored.missingSince < startedAt ? ['missing_since'] : []
  // What was observed after this walk saw it is newer, not wrong.
  if (stored.observedAt <= seen.observedAt) fields.push(...differingFields(seen, stored))
  return fields.length === 0 ? 'same' : fields
}

/** The pages of a whole walk, each as soon as it joins the one before; none is stored. */
async function* walk(
  { id: conversationId, scopeId }: KnownConversation,
  dependencies: VerifyDependencies,
  signal: AbortSignal,
): AsyncGenerator<readonly MappedRecord[]> {
  let position: Walk = { number: 0, requested: 0n, full: true, offset: 0, tail: [] }
  const guard = createWalkGuard(conversationId)
  for (;;) {
    const records = await readPage({ scopeId, conversationId, offset: position.offset }, dependencies, signal)
    const keys = records.map(recordKey)
    const hasNews = keys.some((key) => !position.tail.includes(key))
    const page = { keys, full: records.length >= HISTORY_PAGE_SIZE, reachesKnown: false }
    const step = walkStep(position, page, HISTORY_PAGE_SIZE, guard.stepsBack)
    yield records
    if (step.kind === 'finished') return
    guard.check(position, step, hasNews)
    position = { ...position, offset: step.offset, tail: step.tail }
  }
}

/** Tries again what may pass, unless the wait is long. */
async function readPage(
  address: PageAddress,
  { history }: VerifyDependencies,
  signal: AbortSignal,
): Promise<readonly MappedRecord[]> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return (await history.readPage(address, { waiting: signal, asking: signal })).records
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      const waitMs = backoffMs(attempt, Math.random(), error.retryAfterMs)
      // A wrong secret or clock does not mend itself while the operator waits.
      const mayPass = error.retryable && !(error instanceof KommoHttpError && error.status === 403)
      if (!mayPass || attempt === MAX_ATTEMPTS || waitMs > LONGEST_WAIT_MS) throw error
      await sleep(waitMs, undefined, { signal })
    }
  }
}

/** What arrived just before may be on its way into the tables: gives a sync that is called for the time to end. */
async function waitForSync(
  db: Queryable,
  conversationId: string,
  open: ReadonlyMap<string, Message>,
  startedAt: Date,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + SYNC_GRACE_MS
  while (performance.now() < deadline) {
    if (!(await isBeingSynced(db, conversationId))) return
    const stored = await readAll(db, [...open.keys()])
    const isOpen = [...open.values()].some(
      (message) => compare(message, stored.get(message.id), startedAt) !== 'same',
    )
    if (!isOpen) return
    await sleep(LOOK_EVERY_MS, undefined, { signal })
  }
}

async function readAll(db: Queryable, ids: readonly string[]): Promise<Map<string, StoredMessage>> {
  const all = new Map<string, StoredMessage>()
  for (let start = 0; start < ids.length; start += CHUNK) {
    for (const [id, message] of await readStoredMessages(db, ids.slice(start, start + CHUNK))) {
      all.set(id, message)
    }
  }
  return all
}

async function findGone(
  db: Queryable,
  conversationId: string,
  seen: ReadonlySet<string>,
  storedBefore: Date,
): Promise<WalkedMessage[]> {
  const gone: WalkedMessage[] = []
  const limit = 10 * CHUNK
  for (let afterId = ''; ;) {
    const page = await readWalkedMessages(db, conversationId, { storedBefore, afterId, limit })
    gone.push(...page.filter(({ id }) => !seen.has(id)))
    const last = page.at(-1)
    if (last === undefined || page.length < limit) return gone
    afterId = last.id
  }
}
