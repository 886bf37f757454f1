import type { ClaimedConversation } from '../../src/domain/conversation.ts'
import { parseScopeId } from '../../src/domain/scope.ts'
import { createGroupCommit } from '../../src/inbox/group-commit.ts'
import { receiveWebhook } from '../../src/inbox/receive-webhook.ts'
import { createKommoClient } from '../../src/kommo/client.ts'
import { createLogger } from '../../src/logger.ts'
import { createMetrics } from '../../src/metrics.ts'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { callForSync, claimConversations } from '../../src/store/conversations.ts'
import { recordWebhooks } from '../../src/store/webhook-events.ts'
import { createHistoryReader } from '../../src/sync/history-reader.ts'
import { createRateLimiter } from '../../src/sync/rate-limiter.ts'
import { syncConversation } from '../../src/sync/sync-conversation.ts'
import { type Worker, startWorker } from '../../src/sync/worker.ts'
import { createTestDatabase } from './database.ts'

const never = new AbortController().signal

export type SyncSetup = Awaited<ReturnType<typeof setUpSync>>

/** A database, a simulated Kommo and what joins them. */
export async function setUpSync({ requestsPerSecond = 1000 } = {}) {
  const database = await createTestDatabase({ maxConnections: 10 })
  const simulated = await startSimulatedKommo()
  const channels = [{ id: simulated.channelId, secret: simulated.channelSecret, previousSecret: null }]
  const kommo = createKommoClient({ baseUrl: simulated.url, channels })
  const metrics = createMetrics()
  const dependencies = {
    database,
    history: createHistoryReader({
      db: database.prisma,
      kommo,
      rateLimiter: createRateLimiter(database.prisma, requestsPerSecond),
      metrics,
    }),
    metrics,
    log: createLogger('silent'),
  }
  const inbox = createGroupCommit({
    bytesOf: () => 1,
    batch: { items: 100, bytes: 100 },
    queue: { items: 1000, bytes: 1000 },
    commit: (webhooks: Parameters<typeof recordWebhooks>[1]) => recordWebhooks(database.prisma, webhooks),
  })
  const workers: Worker[] = []
  const call = (conversation: Conversation, full = false) =>
    callForSync(database.prisma, {
      conversationId: conversation.id,
      scopeId: conversation.scopeId,
      full,
      patient: false,
    })

  async function claim(): Promise<ClaimedConversation> {
    const [claimed] = await claimConversations(database.prisma, simulated.channelId, 1)
    if (claimed === undefined) throw new Error('nothing is due')
    return claimed
  }

  return {
    async close() {
      simulated.faults.clear()
      await Promise.all(workers.map((worker) => worker.stop()))
      await simulated.close()
      await kommo.close()
      await database.drop()
    },
    database,
    simulated,
    dependencies,
    call,
    claim,
    startWorker() {
      const worker = startWorker({ ...dependencies, channelIds: [simulated.channelId], retentionDays: 30 })
      workers.push(worker)
      return worker
    },
    /** A sync that an operator called for, without a worker. */
    async read(conversation: Conversation, { full = false, stopping = never } = {}) {
      await call(conversation, full)
      return syncConversation(await claim(), dependencies, { stopping, cutOff: never })
    },
    /** What the receiver does with a webhook. */
    receive: (webhook: SignedWebhook) => receiveWebhook(inbox, parseScopeId(webhook.scopeId), webhook.bytes),
    row: (conversation: Conversation) =>
      database.prisma.conversation.findUnique({ where: { id: conversation.id } }),
    async storedIds(conversation: Conversation): Promise<string[]> {
      const rows = await database.prisma.message.findMany({ where: { conversationId: conversation.id } })
      return rows.map(({ id }) => id).toSorted()
    },
  }
}

export function existingIds(conversation: Conversation): string[] {
  return [...conversation.messages()].map(({ id }) => id).toSorted()
}
