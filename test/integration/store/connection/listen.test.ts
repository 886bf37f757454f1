import { expect, onTestFinished, test, vi } from 'vitest'
import { createLogger } from '../../../../src/logger.ts'
import { listen } from '../../../../src/store/connection/listen.ts'
import { recordWebhooks } from '../../../../src/store/webhook-events.ts'
import { createTestDatabase } from '../../../helpers/database.ts'
import { inboxWebhook } from '../../../helpers/inbox.ts'
import { SOON } from '../../../helpers/soon.ts'

async function setUp() {
  const database = await createTestDatabase()
  let heard = 0
  const listener = listen(database.url, createLogger('silent'), () => (heard += 1))
  onTestFinished(async () => {
    await listener.close()
    await database.drop()
  })
  return { database, listener, heard: () => heard }
}

test('a listener hears once that it listens, and once of each batch', async () => {
  const { database, heard } = await setUp()
  await vi.waitUntil(() => heard() === 1, SOON)
  await recordWebhooks(database.prisma, [inboxWebhook(), inboxWebhook(), inboxWebhook()])
  await vi.waitUntil(() => heard() === 2, SOON)
  await recordWebhooks(database.prisma, [inboxWebhook()])
  await vi.waitUntil(() => heard() === 3, SOON)
})

test('a listener whose connection ends connects again, and hears that it may have missed something', async () => {
  const { database, heard } = await setUp()
  await vi.waitUntil(() => heard() === 1, SOON)
  await database.pool.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kommo-sync listener' AND datname = current_database()",
  )
  await vi.waitUntil(() => heard() === 2, SOON)
})

test('a listener closes while it still connects', async () => {
  const { listener, heard } = await setUp()
  await listener.close()
  expect(heard()).toBe(0)
})
