import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseScopeId } from '../../../src/domain/scope.ts'
import {
  callForAllHistories,
  onlyKnownScope,
  readBackfillProgress,
  scopeOfEachChannel,
} from '../../../src/store/backfill.ts'
import { claimConversations, failConversation } from '../../../src/store/conversations.ts'
import { blockChannel } from '../../../src/store/rate-limits.ts'
import { readStatus } from '../../../src/store/status.ts'
import { storeWalkPage } from '../../../src/store/walk-page.ts'
import { recordWebhooks } from '../../../src/store/webhook-events.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'
import { SCOPE } from '../../helpers/sighting.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

test('an empty database has nothing to tell', async () => {
  expect(await readStatus(database.prisma)).toEqual({
    conversations: { total: 0, complete: 0, behind: 0, failing: 0, dead: 0, oldestBehind: null },
    messages: { total: 0, withMedia: 0, missing: 0, revisions: 0, estimated: [] },
    webhooks: [],
    webhooksEstimated: false,
    oldestWaiting: null,
    failing: [],
    channels: [],
    replicas: [],
    at: expect.any(Date),
  })
  expect(await onlyKnownScope(database.prisma)).toBeNull()
  expect(await readBackfillProgress(database.prisma, null)).toEqual({ open: 0, dead: [], walked: 0 })
})

test('status and backfill tell what is complete, behind, failing, dead and blocked', async () => {
  const db = database.prisma
  const ids = ['complete', 'failing', 'dead', 'behind']
  await recordWebhooks(
    db,
    ids.map((conversationId) => inboxWebhook({ conversationId })),
  )
  expect(await onlyKnownScope(db)).toBe(SCOPE)
  expect(await callForAllHistories(db)).toBe(4)
  expect(await readBackfillProgress(db, null)).toMatchObject({ open: 4, dead: [] })

  for (const claim of await claimConversations(db, parseScopeId(SCOPE).channelId, 4)) {
    expect(claim.walk.full).toBe(true)
    if (claim.id === 'complete')
      await storeWalkPage(db, claim, claim.walk, {
        records: [],
        lastMessageAt: null,
        stretch: null,
        next: { reachedEnd: true },
      })
    if (claim.id === 'failing') await failConversation(db, claim, { message: 'no answer', retryInMs: 60_000 })
    if (claim.id === 'dead') await failConversation(db, claim, { message: 'gone', retryInMs: null })
  }
  await blockChannel(db, 'channel', { pauseMs: 60_000, firstPauseMs: 1, reason: 'refused' })

  const status = await readStatus(db)
  expect(status.conversations).toMatchObject({ total: 4, complete: 1, behind: 2, failing: 1, dead: 1 })
  expect(status.webhooks).toEqual([{ kind: 'message', total: 4, pending: 4, failed: 0 }])
  expect(status.failing.map(({ id }) => id).toSorted()).toEqual(['dead', 'failing'])
  expect(status.channels).toMatchObject([{ channelId: 'channel', reason: 'refused' }])
  expect(await readBackfillProgress(db, null)).toMatchObject({
    open: 2,
    dead: [{ id: 'dead', lastError: 'gone' }],
  })
  expect(await readBackfillProgress(db, ['complete'])).toMatchObject({ open: 0, dead: [] })

  await recordWebhooks(db, [inboxWebhook({ conversationId: 'other', scopeId: 'channel_account' })])
  expect(await onlyKnownScope(db)).toBeNull()
  expect((await scopeOfEachChannel(db)).toSorted()).toEqual([SCOPE, 'channel_account'].toSorted())
})
