import { expect, test } from 'vitest'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SimulatedMessage } from '../../src/simulated-kommo/message.ts'
import { callForAllHistories } from '../../src/store/backfill.ts'
import { callForSync } from '../../src/store/conversations.ts'
import { createTestDatabase } from '../helpers/database.ts'
import { seededRandom } from '../helpers/seeded-random.ts'
import { startService } from '../helpers/service.ts'
import { SOAK, showFigures } from '../helpers/soak.ts'
import { untilSynced } from '../helpers/synced.ts'
import { type Tables, differences, expectedTables, storedTables } from '../helpers/truth.ts'

const WALKS = SOAK > 0 ? 500 : 60
const SEED = Number(process.env['SEED'] ?? 20_261_122)
const CONVERSATIONS = 20
/** Around the edges of a page of 50 of which the next repeats one. */
const SIZES = [30, 49, 50, 51, 98, 99, 100, 147, 148, 149, 200, 260, 340, 400]

/** What a shop does to its chats while they are read: mostly between two pages of one walk. */
function createUnrest(kommo: SimulatedKommo, random: () => number) {
  const removed = new Map<string, { conversation: Conversation; message: SimulatedMessage }>()
  const counts = { gained: 0, imported: 0, edited: 0, removed: 0, restored: 0 }
  /** Came in below what was read already: only a full walk looks there. */
  const late = new Set<string>()
  let text = 0

  const anyOf = (conversation: Conversation, below = conversation.size) => {
    const [message] = conversation.page(Math.floor(random() * below), 1)
    return message
  }

  function remove(conversation: Conversation, message: SimulatedMessage | undefined): void {
    if (message === undefined || conversation.size < 20) return
    conversation.removeMessage(message.id)
    removed.set(message.id, { conversation, message })
    counts.removed += 1
  }

  function restore(conversation: Conversation): void {
    const found = [...removed.values()].find((each) => each.conversation === conversation)
    if (found === undefined) return
    const { webhookOnly: _only, sender: _sender, receiver, ...content } = found.message
    conversation.importMessage({ ...content, from: receiver === null ? 'client' : 'manager' })
    removed.delete(found.message.id)
    late.add(found.message.id)
    counts.restored += 1
  }

  /** @param offset of the page that is about to be answered */
  function disturb(conversation: Conversation, offset: number): void {
    const what = random()
    text += 1
    if (what < 0.3) {
      for (let n = 0; n <= random() * 4; n += 1) conversation.addMessage({ text: `new ${text} ${n}` })
      counts.gained += 1
    } else if (what < 0.4) {
      const beside = anyOf(conversation)?.sentAtMs ?? 0
      const sentAtMs = beside + 1 + Math.floor(random() * 500)
      late.add(conversation.importMessage({ sentAtMs, text: `old ${text}` }).id)
      counts.imported += 1
    } else if (what < 0.6) {
      const message = anyOf(conversation)
      if (message !== undefined) conversation.editMessage(message.id, { text: `edited ${text}` })
      counts.edited += 1
    } else if (what < 0.7) restore(conversation)
    // Above the page: what follows moves up, and a walk that goes on by its offset misses as many.
    else if (what < 0.9 && offset > 0) {
      for (let n = 0; n <= random() * 3; n += 1) remove(conversation, anyOf(conversation, offset))
    } else remove(conversation, anyOf(conversation))
  }

  const listenTo = (share: number) =>
    kommo.faults.onHistoryRequest(({ conversationId, offset }) => {
      const conversation = kommo.conversations.get(conversationId)
      if (conversation !== undefined && random() < share) disturb(conversation, offset)
    })

  return { counts, removed, late, listenTo }
}

test(
  `${WALKS} walks through histories that gain, edit and lose messages: a last full walk makes the tables equal them, and nothing was deleted`,
  { timeout: 60_000 + WALKS * 1000 },
  async () => {
    const kommo = await startSimulatedKommo()
    const database = await createTestDatabase()
    try {
      const random = seededRandom(SEED)
      const conversations = Array.from({ length: CONVERSATIONS }, (_, n) =>
        kommo.conversations.generate({ messages: SIZES[n % SIZES.length] ?? 0, seed: `walks ${n}` }),
      )
      await using _service = await startService({
        DATABASE_URL: database.url,
        KOMMO_BASE_URL: kommo.url,
        KOMMO_CHANNEL_ID: kommo.channelId,
        KOMMO_CHANNEL_SECRET: kommo.channelSecret,
        KOMMO_REQUESTS_PER_SECOND: '1000',
        RECONCILE_INTERVAL: '0',
      })
      const unrest = createUnrest(kommo, random)
      const calm = unrest.listenTo(0.6)
      const ever = new Set<string>()
      const walked = async () => {
        const { rows } = await database.pool.query<{ walks: number }>(
          'SELECT COALESCE(sum(walks_completed), 0)::int AS walks FROM kommo.conversations',
        )
        return rows[0]?.walks ?? 0
      }
      let looked = 0
      const lacksSome = () => Object.values(unrest.counts).includes(0)
      while ((await walked()) < WALKS || lacksSome()) {
        const before = conversations.map((conversation) => ({
          conversation,
          ids: [...conversation.messages()].map(({ id }) => id),
        }))
        for (const { id: conversationId, scopeId } of conversations) {
          // Every third walk goes to the oldest message.
          const full = random() < 1 / 3
          await callForSync(database.prisma, { conversationId, scopeId, full, patient: false })
        }
        await untilSynced(database.pool)
        const { messages, conversations: rows } = await storedTables(database.pool)
        for (const id of messages.keys()) ever.add(id)
        // Whatever came and went meanwhile: what was there all the time is stored where a history calls itself complete.
        const holes = before.flatMap(({ conversation, ids }) => {
          if (rows.get(conversation.id)?.['history_complete'] !== true) return []
          looked += 1
          return ids.filter(
            (id) => conversation.message(id) !== undefined && !unrest.late.has(id) && !messages.has(id),
          )
        })
        expect(holes).toEqual([])
      }
      calm()

      await callForAllHistories(database.prisma)
      await untilSynced(database.pool)
      const stored = await storedTables(database.pool)
      const missing = await missingIds(database)
      expect([...ever].filter((id) => !stored.messages.has(id))).toEqual([])
      expect([...unrest.removed.keys()].filter((id) => stored.messages.has(id)).toSorted()).toEqual(
        [...missing].toSorted(),
      )
      expect(differences(present(stored, missing), present(expectedTables(conversations, [])))).toEqual([])
      const complete = [...stored.conversations.values()].filter((row) => row['history_complete'] === true)
      expect(complete).toHaveLength(CONVERSATIONS)

      const figures = {
        walks: await walked(),
        looked,
        ...unrest.counts,
        missing: missing.size,
        rows: stored.messages.size,
      }
      showFigures(figures)
      for (const count of Object.values(figures)) expect(count).toBeGreaterThan(0)
    } finally {
      await kommo.close()
      await database.drop()
    }
  },
)

async function missingIds({ pool }: Awaited<ReturnType<typeof createTestDatabase>>): Promise<Set<string>> {
  const { rows } = await pool.query<{ id: string }>(
    'SELECT id FROM kommo.messages WHERE missing_since IS NOT NULL',
  )
  return new Set(rows.map(({ id }) => id))
}

/**
 * The messages and media that Kommo has now. What else the tables keep of removed messages (their people, the time of the
 * newest) has no like in Kommo.
 */
function present({ messages, media }: Tables, missing: ReadonlySet<string> = new Set()): Tables {
  const without = (table: Tables['messages']) => new Map([...table].filter(([id]) => !missing.has(id)))
  return {
    conversations: new Map(),
    participants: new Map(),
    messages: without(messages),
    media: without(media),
  }
}
