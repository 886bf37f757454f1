import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { Prisma } from '../../../src/store/generated/client.ts'
import { type ToldReaction, reactionStates } from '../../../src/store/reactions.ts'
import { storeTogether } from '../../../src/store/records.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { SCOPE } from '../../helpers/sighting.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
  await database.pool.query(`INSERT INTO kommo.conversations (id, scope_id) VALUES ('conversation-1', $1)`, [
    SCOPE,
  ])
})
beforeEach(() => database.pool.query('TRUNCATE kommo.reaction_states'))
afterAll(() => database.drop())

/** @param second when Kommo told of it @param arrival number of the webhook */
function told(second: number, arrival: number, emoji: string | null, who = 'p'): ToldReaction {
  return {
    messageId: 'not stored yet',
    participantId: who,
    conversationId: 'conversation-1',
    scopeId: SCOPE,
    emoji,
    at: new Date(second * 1000),
    webhookId: BigInt(arrival),
  }
}

const storeReactions = (reactions: readonly ToldReaction[]) =>
  storeTogether(database.prisma, [], null, { held: Prisma.sql`SELECT`, writes: reactionStates(reactions) })

async function standing(): Promise<string[]> {
  const { rows } = await database.pool.query<{ emoji: string }>(
    'SELECT emoji FROM kommo.reactions ORDER BY 1',
  )
  return rows.map(({ emoji }) => emoji)
}

test('a reaction stands, another of the same person replaces it, one of somebody else stands beside it', async () => {
  await storeReactions([told(1, 1, '👍')])
  await storeReactions([told(2, 2, '🎉'), told(2, 3, '😀', 'q')])
  expect(await standing()).toEqual(['🎉', '😀'])
})

test('one that was taken back is gone, and does not return when it comes late or again', async () => {
  await storeReactions([told(2, 2, null)])
  await storeReactions([told(1, 1, '👍')])
  expect(await standing()).toEqual([])
  await storeReactions([told(3, 3, '🎉')])
  expect(await standing()).toEqual(['🎉'])
})

test('of two in the same second the one that arrived later counts, also within a batch', async () => {
  await storeReactions([told(1, 2, null), told(1, 1, '👍')])
  expect(await standing()).toEqual([])
})

test('in any order, grouping and repetition, also at once, the newest word stands', async () => {
  const word = fc.record({
    second: fc.integer({ min: 1, max: 3 }),
    emoji: fc.constantFrom('👍', '🎉', null),
    who: fc.constantFrom('p', 'q'),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(word, { maxLength: 4 }), { maxLength: 5 }), async (batches) => {
      await database.pool.query('TRUNCATE kommo.reaction_states')
      let arrival = 0
      const reactions = batches.map((batch) =>
        batch.map((w) => told(w.second, (arrival += 1), w.emoji, w.who)),
      )
      await Promise.all(reactions.map((batch) => storeReactions(batch)))
      await storeReactions(reactions[0] ?? [])
      const last = new Map<string, ToldReaction>()
      for (const reaction of reactions.flat()) {
        const known = last.get(reaction.participantId)
        if (known === undefined || reaction.at >= known.at) last.set(reaction.participantId, reaction)
      }
      const expected = [...last.values()].flatMap(({ emoji }) => emoji ?? []).toSorted()
      expect((await standing()).toSorted()).toEqual(expected)
    }),
    { numRuns: 30 },
  )
})
