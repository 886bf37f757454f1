import { statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { createMetrics } from '../src/metrics.ts'
import { createLogger } from '../src/logger.ts'
import { parseScopeId } from '../src/domain/scope.ts'
import { classifyWebhook } from '../src/kommo/classify-webhook.ts'
import { newReceiptId } from '../src/inbox/receipt-id.ts'
import type { Conversation } from '../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../src/simulated-kommo/simulated-kommo.ts'
import { callForSync, claimConversations } from '../src/store/conversations.ts'
import { type Database, createDatabase } from '../src/store/connection/database.ts'
import { recordWebhooks } from '../src/store/webhook-events.ts'
import { applyWebhooks } from '../src/sync/apply-webhooks.ts'
import { storePage } from '../src/sync/store-page.ts'
import type { Bench } from './harness/bench.ts'
import { fillMessages } from './harness/fill-messages.ts'
import { mappedPage } from './harness/pages.ts'
import { type Side, figure, figureOf, inTurns, ratioOf, side } from './harness/rounds.ts'

const SMALL = 10_000
/** Both databases hold the same conversations, which are what is measured; the rest of the large one lies around them. */
const CONVERSATIONS = 160
const MESSAGES_EACH = 60
const BATCH = 40
const TURNS = 6
/** Of the conversations, in one turn. */
const SYNCS = 40
const BYTES_A_MESSAGE = 2500

export const storedMessages: Bench = {
  name: 'stored-messages',
  question:
    'what do a webhook and an unchanged sync cost at 10 million messages stored, against 10 thousand?',
  async run({ server, smoke, rounds, rows, say }) {
    const { bavail, bsize } = await statfs(tmpdir())
    if (bavail * bsize < rows * BYTES_A_MESSAGE) {
      throw new Error(`${rows} messages need ${(rows * BYTES_A_MESSAGE) / 1e9} GB of disk: give --rows`)
    }
    await using stack = new AsyncDisposableStack()
    const kommo = await startSimulatedKommo()
    stack.defer(() => kommo.close())
    const conversations = Array.from({ length: smoke ? 8 : CONVERSATIONS }, () =>
      kommo.conversations.generate({ messages: MESSAGES_EACH }),
    )

    const open = async () => {
      const database = createDatabase(await server.createDatabase(), {
        maxConnections: 4,
        timeoutMs: 3_600_000,
      })
      stack.defer(() => database.close())
      return database
    }
    const small = await open()
    const large = await open()
    await storeAll(small, conversations)
    const filledAt = performance.now()
    await fillMessages(large, { scopeId: kommo.scopeId, messages: Math.floor(rows / 2), from: 0 })
    await storeAll(large, conversations)
    await fillMessages(large, {
      scopeId: kommo.scopeId,
      messages: Math.ceil(rows / 2),
      from: Math.floor(rows / 2),
    })
    const [size] = await large.prisma.$queryRaw<{ gb: number }[]>`
      SELECT (pg_database_size(current_database()) / 1e9)::float8 AS gb`
    say(`filled in ${Math.round((performance.now() - filledAt) / 1000)} s, ${size?.gb.toFixed(1)} GB`)

    const batches = smoke ? 1 : 4
    const many = `at ${rows.toLocaleString('en')}`
    const few = `at ${(smoke ? 8 * MESSAGES_EACH : SMALL).toLocaleString('en')}`
    const webhook = (name: string, database: Database) =>
      side(`a webhook ${name}`, 'ms', () => webhookMs(database, kommo, conversations, batches))
    const unchanged = (name: string, database: Database) => {
      let turn = 0
      return side(`an unchanged sync ${name}`, 'ms', () => {
        const first = (turn++ * SYNCS) % conversations.length
        return unchangedMs(database, conversations.slice(first, first + SYNCS))
      })
    }
    const webhooks: [Side, Side] = [webhook(many, large), webhook(few, small)]
    const syncs: [Side, Side] = [unchanged(many, large), unchanged(few, small)]
    // Short turns and many: the two databases share one server, whose own work comes in bursts.
    await inTurns([...webhooks, ...syncs], smoke ? 1 : rounds * TURNS)

    return {
      settings: { rows, 'webhooks a commit': BATCH, conversations: conversations.length, rounds },
      figures: [...webhooks, ...syncs]
        .map(figureOf)
        .concat(figure('size of the large database', 'GB', [size?.gb ?? 0])),
      answers: [
        { question: 'a webhook, received and applied', asked: { most: 1.2 }, measured: ratioOf(...webhooks) },
        {
          question: 'an unchanged sync, without its request',
          asked: { most: 1.2 },
          measured: ratioOf(...syncs),
        },
      ],
    }
  },
}

/** Walks each conversation once, as a worker does. */
async function storeAll(database: Database, conversations: readonly Conversation[]): Promise<void> {
  for (const { id, scopeId } of conversations)
    await callForSync(database.prisma, { conversationId: id, scopeId, full: false, patient: false })
  await syncAll(database, conversations)
}

async function syncAll(database: Database, conversations: readonly Conversation[]): Promise<number> {
  const byId = new Map(conversations.map((conversation) => [conversation.id, conversation]))
  const [first] = conversations
  const { channelId } = parseScopeId(first?.scopeId ?? '')
  let done = 0
  for (;;) {
    const claims = await claimConversations(database.prisma, channelId, 8)
    if (claims.length === 0) return done
    for (const claim of claims) {
      const conversation = byId.get(claim.id)
      if (conversation === undefined) throw new Error('another conversation is due')
      for (let { walk } = claim; ;) {
        const observedAt = new Date()
        const records = mappedPage(conversation, walk.offset, observedAt)
        const { step } = await storePage(database, claim, walk, { records, observedAt }, 0)
        if (step.kind === 'finished') break
        walk = { ...walk, offset: step.offset, tail: step.tail }
      }
      done += 1
    }
  }
}

async function unchangedMs(database: Database, conversations: readonly Conversation[]): Promise<number> {
  for (const { id, scopeId } of conversations)
    await callForSync(database.prisma, { conversationId: id, scopeId, full: false, patient: false })
  const startedAt = performance.now()
  const done = await syncAll(database, conversations)
  return (performance.now() - startedAt) / done
}

/** From the inbox's statement to the visible row. */
async function webhookMs(
  database: Database,
  kommo: SimulatedKommo,
  conversations: readonly Conversation[],
  batches: number,
): Promise<number> {
  const dependencies = { database, metrics: createMetrics(), log: createLogger('silent') }
  let next = 0
  const batchesOfWebhooks = Array.from({ length: batches }, () =>
    Array.from({ length: BATCH }, () => {
      const conversation = conversations[next++ % conversations.length]
      if (conversation === undefined) throw new Error('unreachable: there are conversations')
      const message = conversation.addMessage({ from: 'manager', text: 'Good morning, it is on its way.' })
      const { bytes: body, scopeId } = kommo.webhooks.message(conversation, message)
      const receiptId = newReceiptId(Date.now())
      return { ...classifyWebhook(body), receiptId, receivedAt: null, scopeId, body }
    }),
  )
  const startedAt = performance.now()
  for (const webhooks of batchesOfWebhooks) {
    await recordWebhooks(database.prisma, webhooks)
    await applyWebhooks(dependencies)
  }
  const perWebhook = (performance.now() - startedAt) / (batches * BATCH)
  // Else they would come due among the unchanged ones.
  await database.pool.query('UPDATE kommo.conversations SET run_after = now() WHERE requested > processed')
  await syncAll(database, conversations)
  return perWebhook
}
