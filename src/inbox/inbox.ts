import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { InboxWebhook } from '../domain/webhook.ts'
import type { Metrics } from '../metrics.ts'
import { batchesOf } from './batches.ts'
import { createGroupCommit } from './group-commit.ts'
import { type Record, recordBatch } from './record-batch.ts'
import type { Spool } from './spool.ts'
import { createTurns } from './turns.ts'
import { within } from './within.ts'

export interface Inbox {
  /** Resolves when the webhook is durable, in the database or on disk; rejects when it is not. */
  add(webhook: InboxWebhook): Promise<void>
  /** Where webhooks go now. On disk while the database is away, and until it has all of them. */
  readonly state: 'database' | 'spool'
  /** Resolves when everything added is durable or refused. What is on disk stays there. */
  close(): Promise<void>
}

export interface InboxOptions {
  /** Records while Kommo waits: fails early. */
  record: Record
  /** Records what waits on disk: nobody is in a hurry. */
  recordPatiently: Record
  spool: Spool
  metrics: Metrics
  log: Logger
  /** The database is known to be away, or without its tables. */
  away?: boolean
  /** How long a commit may take before the database counts as away. */
  commitWaitMs?: number
  /** The same for a batch from disk: then it is tried again. */
  patienceMs?: number
}

const MIB = 1024 * 1024
const BATCH = { items: 200, bytes: 8 * MIB }
/** What waits behind a slow commit; Kommo has given up on the last of a longer queue anyway. */
const QUEUE = { items: 10_000, bytes: 64 * MIB }

/** Kommo waits 5 s (documented) and demotes receivers that are slow; the disk takes a batch within milliseconds. */
const COMMIT_WAIT_MS = 800

const PATIENCE_MS = 10_000

const RETRY_MS = { first: 200, most: 2000 }
/** About once a minute. */
const REMIND_EVERY = 30

/**
 * Where verified webhooks become durable, in the order of their arrival. Usually in the database. When that fails or is
 * slow, on disk, and everything that follows too, until the database has taken all of it: oldest first, through the same
 * statement, which knows each webhook by its receipt and so may be run again.
 */
export function createInbox({
  record,
  recordPatiently,
  spool,
  metrics,
  log,
  away = false,
  commitWaitMs = COMMIT_WAIT_MS,
  patienceMs = PATIENCE_MS,
}: InboxOptions): Inbox {
  // A commit, and the drain where it touches the spool or ends: never two at once.
  const inTurn = createTurns()
  const stopping = new AbortController()
  let state: Inbox['state'] = 'database'
  let draining: Promise<void> = Promise.resolve()

  const group = createGroupCommit<InboxWebhook>({
    bytesOf,
    batch: BATCH,
    queue: QUEUE,
    async commit(webhooks) {
      await inTurn(() => keep(webhooks))
      metrics.webhookBatch.observe(webhooks.length)
    },
  })

  async function keep(webhooks: readonly InboxWebhook[]): Promise<void> {
    if (state === 'database') {
      try {
        return await recordInTime(webhooks)
      } catch (error) {
        log.error(
          { err: error, webhooks: webhooks.length },
          'the database is away: webhooks are kept on disk',
        )
        enterSpool()
      }
    }
    await spool.append(webhooks)
    metrics.spooledWebhooks.inc(webhooks.length)
    showSize()
  }

  async function recordInTime(webhooks: readonly InboxWebhook[]): Promise<void> {
    const recorded = recordBatch(record, webhooks, log)
    await setAside(await within(commitWaitMs, 'A commit of webhooks', recorded))
  }

  /** What the database will never take must not stand before what it takes. */
  async function setAside(refused: readonly InboxWebhook[]): Promise<void> {
    if (refused.length > 0) await spool.setAside(refused)
  }

  function enterSpool(): void {
    state = 'spool'
    metrics.databaseAway.set(1)
    draining = drain()
  }

  async function drain(): Promise<void> {
    const startedAt = performance.now()
    let drained = 0
    let failures = 0
    while (!stopping.signal.aborted) {
      try {
        drained += await drainOldest()
        failures = 0
        const last = await finish()
        if (last === null) continue
        const webhooks = drained + last
        const seconds = Math.round((performance.now() - startedAt) / 1000)
        log[webhooks > 0 ? 'warn' : 'info'](
          { webhooks, seconds },
          'the database has all webhooks that were on disk',
        )
        return
      } catch (error) {
        failures += 1
        const level = failures % REMIND_EVERY === 0 ? 'warn' : 'debug'
        log[level]({ err: error, failures, ...spool.size }, 'the database does not take what is on disk yet')
        await pause(failures)
      }
    }
  }

  /** Moves a segment to the database while new webhooks go to another. @returns how many webhooks */
  async function drainOldest(): Promise<number> {
    const segment = await inTurn(() => spool.oldest())
    for (const batch of batchesOf(segment?.webhooks ?? [], bytesOf, BATCH)) {
      stopping.signal.throwIfAborted()
      const recorded = recordBatch(recordPatiently, batch, log)
      await setAside(await within(patienceMs, 'A batch from disk', recorded, stopping.signal))
    }
    if (segment !== null) await inTurn(() => remove(segment))
    return segment?.webhooks.length ?? 0
  }

  /**
   * The database has just taken everything but a last batch: new webhooks wait for that one and then go to the database,
   * so none overtakes another. @returns how many there were, `null` when they were too many
   */
  function finish(): Promise<number | null> {
    return inTurn(async () => {
      const { webhooks, bytes } = spool.size
      if (stopping.signal.aborted || webhooks > BATCH.items || bytes > BATCH.bytes) return null
      let drained = 0
      for (let segment = await spool.oldest(); segment !== null; segment = await spool.oldest()) {
        await recordInTime(segment.webhooks)
        await remove(segment)
        drained += segment.webhooks.length
      }
      state = 'database'
      metrics.databaseAway.set(0)
      return drained
    })
  }

  async function remove(segment: Parameters<Spool['remove']>[0]): Promise<void> {
    await spool.remove(segment)
    metrics.spoolCorrupt.inc(segment.corrupt)
    showSize()
  }

  function showSize(): void {
    const { webhooks, bytes, oldestAt } = spool.size
    metrics.spoolWebhooks.set(webhooks)
    metrics.spoolBytes.set(bytes)
    metrics.spoolOldest.set(oldestAt === null ? 0 : oldestAt.getTime() / 1000)
  }

  async function pause(failures: number): Promise<void> {
    const waitMs = Math.min(RETRY_MS.first * 2 ** (failures - 1), RETRY_MS.most) * (0.75 + Math.random() / 2)
    await sleep(waitMs, undefined, { signal: stopping.signal }).catch(() => {})
  }

  showSize()
  if (away || spool.size.bytes > 0) enterSpool()

  return {
    add: (webhook) => group.add(webhook),
    get state() {
      return state
    },
    async close() {
      stopping.abort()
      await group.drain()
      await draining
    },
  }
}

function bytesOf({ body }: InboxWebhook): number {
  return body.byteLength
}
