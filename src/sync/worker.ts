import type { ClaimedConversation } from '../domain/conversation.ts'
import { AppError } from '../errors.ts'
import { KommoHttpError } from '../kommo/errors.ts'
import {
  LEASE_MS,
  LeaseLostError,
  claimConversations,
  completeAnswered,
  failConversation,
  nextDueInMs,
  releaseConversation,
  renewLeases,
} from '../store/conversations.ts'
import { SETTLE_MS } from '../store/call.ts'
import { WEBHOOKS, listen } from '../store/connection/listen.ts'
import { deleteOldWebhookEvents } from '../store/webhook-events.ts'
import { applyWebhooks } from './apply-webhooks.ts'
import { MAX_ATTEMPTS, backoffMs } from './backoff.ts'
import { type Loop, startLoop } from './loop.ts'
import { ChannelBlockedError } from './rate-limiter.ts'
import { type StopSignals, type SyncDependencies, syncConversation } from './sync-conversation.ts'

export interface WorkerOptions extends SyncDependencies {
  /** Conversations of other channels are left to those who know their secrets. */
  channelIds: readonly string[]
  retentionDays: number
  /**
   * Conversations of one channel read at the same time by this process: no channel takes another's places, and long
   * walks leave places for short ones. The rate, not this, bounds the requests.
   */
  concurrency?: number
}

export interface Worker {
  /** Finishes the pages in hand, gives the claims back. */
  stop(): Promise<void>
}

/** The floor under the notifications: what a lost one would have told is found this late. */
const POLL_MS = 2000
const MAINTENANCE_MS = 3_600_000
/** A page that Kommo is slow to send is given up this long after the stop. */
const FINISH_PAGE_MS = 4000
/**
 * Conversations with nothing to read come in runs (late and repeated webhooks), and cost little but the statement: where
 * there are some, more are looked at with one.
 */
const LOOK_FURTHER = { usually: 24, amongAnswered: 192 }

/** Two renewals may fail before a lease runs out. */
const RENEWAL_MS = LEASE_MS / 3

/** Keeps conversations synced: applies waiting webhooks, claims what is due, deletes what is past its retention. */
export function startWorker({
  channelIds,
  concurrency = 8,
  retentionDays,
  ...dependencies
}: WorkerOptions): Worker {
  const { database, log } = dependencies
  const db = database.prisma
  const stopping = new AbortController()
  const cutOff = new AbortController()

  const webhooks = startLoop({
    name: 'webhooks',
    log,
    round: async () => ((await applyWebhooks(dependencies)) ? 0 : jittered(POLL_MS)),
  })

  const channels = channelIds.map((channelId) => startChannel(channelId))

  const leases = startLoop({
    name: 'leases',
    log,
    async round() {
      await renewLeases(
        db,
        channels.flatMap(({ running }) => [...running.values()]),
      )
      return RENEWAL_MS
    },
  })

  const maintenance = startLoop({
    name: 'maintenance',
    log,
    async round() {
      const deleted = await deleteOldWebhookEvents(db, retentionDays, 1000)
      return deleted === 1000 ? 0 : jittered(MAINTENANCE_MS)
    },
  })

  let settling: NodeJS.Timeout | null = null
  function wakeChannels(): void {
    settling = null
    for (const { loop } of channels) loop.wake()
  }
  const listener = listen(database.url, log, (payload) => {
    webhooks.wake()
    if (payload !== WEBHOOKS) wakeChannels()
    else settling ??= setTimeout(wakeChannels, SETTLE_MS).unref()
  })

  function startChannel(channelId: string): { loop: Loop; running: Map<Promise<void>, ClaimedConversation> } {
    const running = new Map<Promise<void>, ClaimedConversation>()
    let lookFurther = LOOK_FURTHER.usually
    const loop = startLoop({
      name: `conversations of ${channelId}`,
      log,
      async round() {
        const free = concurrency - running.size
        if (free === 0) return POLL_MS
        const claims = await claimConversations(db, channelId, free, lookFurther)
        const answered = claims.filter((claim) => claim.answered)
        lookFurther = answered.length > 0 ? LOOK_FURTHER.amongAnswered : LOOK_FURTHER.usually
        await completeAnswered(db, answered)
        for (const claim of claims) if (!claim.answered) start(claim)
        if (claims.length >= free) return 0
        const dueInMs = await nextDueInMs(db, channelId)
        return Math.max(1, Math.min(dueInMs ?? POLL_MS, jittered(POLL_MS)))
      },
    })

    function start(claim: ClaimedConversation): void {
      const job: Promise<void> = work(claim, dependencies, {
        stopping: stopping.signal,
        cutOff: cutOff.signal,
      })
        .catch((error: unknown) => {
          log.error(
            { err: error, conversationId: claim.id },
            'a sync ended without a word; its lease runs out',
          )
        })
        .finally(() => {
          running.delete(job)
          loop.wake()
        })
      running.set(job, claim)
    }

    return { loop, running }
  }

  return {
    async stop() {
      stopping.abort()
      const patience = setTimeout(() => cutOff.abort(), FINISH_PAGE_MS)
      if (settling !== null) clearTimeout(settling)
      await listener.close()
      await Promise.all([webhooks.stop(), maintenance.stop(), ...channels.map(({ loop }) => loop.stop())])
      await Promise.all(channels.flatMap(({ running }) => [...running.keys()]))
      await leases.stop()
      clearTimeout(patience)
    },
  }
}

async function work(
  claim: ClaimedConversation,
  dependencies: SyncDependencies,
  stop: StopSignals,
): Promise<void> {
  const { log } = dependencies
  try {
    await sync(claim, dependencies, stop)
  } catch (error) {
    if (!(error instanceof LeaseLostError)) throw error
    log.warn({ conversationId: claim.id }, error.message)
  }
}

async function sync(
  claim: ClaimedConversation,
  dependencies: SyncDependencies,
  stop: StopSignals,
): Promise<void> {
  const { database, metrics, log } = dependencies
  const db = database.prisma
  try {
    const outcome = await syncConversation(claim, dependencies, stop)
    metrics.syncs.inc({ outcome })
    if (outcome === 'stopped') await releaseConversation(db, claim, null)
  } catch (error) {
    if (error instanceof LeaseLostError) throw error
    if (stop.stopping.aborted && isAbort(error)) return releaseConversation(db, claim, null)
    if (error instanceof ChannelBlockedError) return releaseConversation(db, claim, error.message)
    if (error instanceof KommoHttpError && error.channelFault) {
      log.warn({ conversationId: claim.id, status: error.status }, error.message)
      return releaseConversation(db, claim, error.message)
    }
    return fail(claim, error, dependencies)
  }
}

/** @throws LeaseLostError */
async function fail(
  claim: ClaimedConversation,
  error: unknown,
  { database, metrics, log }: SyncDependencies,
): Promise<void> {
  const attempt = claim.attempts + 1
  const known = error instanceof AppError
  // What we did not foresee (a database error, a bug) is tried again: giving up would hide it.
  const again = (known ? error.retryable : true) && attempt < MAX_ATTEMPTS
  const retryInMs = again ? backoffMs(attempt, Math.random(), known ? error.retryAfterMs : undefined) : null
  const message = known
    ? error.message
    : `Unexpected ${error instanceof Error ? error.name : 'error'}; see the log`
  await failConversation(database.prisma, claim, { message, retryInMs })
  metrics.syncs.inc({ outcome: again ? 'failed' : 'dead' })
  const level = again ? 'warn' : 'error'
  log[level](
    { err: error, conversationId: claim.id, attempt, retryInMs: retryInMs && Math.round(retryInMs) },
    again
      ? 'a sync failed and is tried again'
      : 'a sync is given up until a webhook or an operator asks again',
  )
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

/** Replicas must not look at the same moment. */
function jittered(ms: number): number {
  return ms * (0.75 + Math.random() / 2)
}
