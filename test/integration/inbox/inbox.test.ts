import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Inbox, createInbox } from '../../../src/inbox/inbox.ts'
import type { Record } from '../../../src/inbox/record-batch.ts'
import { type Spool, openSpool } from '../../../src/inbox/spool.ts'
import { createLogger } from '../../../src/logger.ts'
import { createMetrics } from '../../../src/metrics.ts'
import { type Database, createDatabase } from '../../../src/store/connection/database.ts'
import { recordWebhooks } from '../../../src/store/webhook-events.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'
import { SOON } from '../../helpers/soon.ts'

let tables: TestDatabase
let database: Database
let folder: string
let spool: Spool
let inbox: Inbox

const log = createLogger('silent')
const openIt = () => openSpool({ folder, log, segmentBytes: 50_000, mostBytes: 10_000_000 })

beforeEach(async () => {
  tables = await createTestDatabase()
  database = createDatabase(tables.url, { maxConnections: 2, timeoutMs: 200 })
  folder = await mkdtemp(join(tmpdir(), 'inbox-'))
  spool = await openIt()
})
afterEach(async () => {
  await inbox.close()
  await spool.close()
  await database.close()
  await tables.drop()
  await rm(folder, { recursive: true, force: true })
})

const toDatabase: Record = (webhooks) => recordWebhooks(database.prisma, webhooks)

function start(record: Record = toDatabase, recordPatiently: Record = record, commitWaitMs = 500): void {
  inbox = createInbox({ record, recordPatiently, spool, metrics: createMetrics(), log, commitWaitMs })
}

const addAll = (from: number, to: number) =>
  Promise.all(
    Array.from({ length: to - from + 1 }, (_, n) => inbox.add(inboxWebhook({ messageId: String(from + n) }))),
  )

const untilBack = () => vi.waitUntil(() => inbox.state === 'database', SOON)

/** Numbers of the stored webhooks in their order, and how often their conversation was called for. */
async function stored() {
  const rows = await tables.prisma.webhookEvent.findMany({ orderBy: { id: 'asc' } })
  const conversation = await tables.prisma.conversation.findFirst()
  return { numbers: rows.map(({ messageId }) => Number(messageId)), requested: conversation?.requested }
}

function expected(most: number) {
  return { numbers: Array.from({ length: most }, (_, n) => n + 1), requested: BigInt(most) }
}

test('a pool that is used up sends webhooks to disk, and they come back', async () => {
  start()
  const holders = await Promise.all([database.pool.connect(), database.pool.connect()])
  await addAll(1, 20)
  expect(inbox.state).toBe('spool')
  for (const holder of holders) holder.release()
  await addAll(21, 40)
  await untilBack()
  expect(await stored()).toEqual(expected(40))
})

test('a locked table sends webhooks to disk, and no abandoned commit doubles them', async () => {
  start()
  const locker = await tables.pool.connect()
  await locker.query('BEGIN')
  await locker.query('LOCK TABLE kommo.conversations')
  await addAll(1, 20)
  expect(inbox.state).toBe('spool')
  await locker.query('COMMIT')
  locker.release()
  await untilBack()
  await addAll(21, 30)
  expect(await stored()).toEqual(expected(30))
})

test('sessions that the server ends cost nothing', async () => {
  start()
  for (let round = 0; round < 5; round += 1) {
    const adding = addAll(round * 50 + 1, round * 50 + 50)
    await tables.pool.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    )
    await adding
  }
  await untilBack()
  expect(await stored()).toEqual(expected(250))
})

test('a commit whose answer is lost is neither repeated nor counted twice', async () => {
  let lose = true
  start(async (webhooks) => {
    await toDatabase(webhooks)
    if (!lose) return
    lose = false
    throw new Error('the connection is lost')
  })
  await addAll(1, 20)
  await untilBack()
  expect(await stored()).toEqual(expected(20))
})

test('a drain that is cut off begins again without doubling anything', async () => {
  const away: Record = () => Promise.reject(new Error('away'))
  start(away)
  await addAll(1, 450)
  await inbox.close()
  await spool.close()

  spool = await openIt()
  let batches = 0
  start(away, async (webhooks) => {
    batches += 1
    if (batches > 2) throw new Error('away again')
    await toDatabase(webhooks)
  })
  await vi.waitUntil(() => batches > 2, SOON)
  await inbox.close()
  await spool.close()
  expect((await stored()).numbers.length).toBeGreaterThan(0)

  spool = await openIt()
  start()
  await addAll(451, 460)
  await untilBack()
  expect(await stored()).toEqual(expected(460))
})

test('a webhook that the database will never take is set aside on disk, and the others go on', async () => {
  // It is not slowness that is looked at here.
  await database.close()
  database = createDatabase(tables.url, { maxConnections: 2 })
  start(toDatabase, toDatabase, 30_000)
  await tables.pool.query("ALTER TABLE kommo.webhook_events ADD CHECK (body <> '\\x6f6464'::bytea)")
  const odd = inbox.add(inboxWebhook({ body: Buffer.from('odd') }))
  await Promise.all([addAll(1, 10), odd])
  expect(inbox.state).toBe('database')
  expect(await stored()).toEqual(expected(10))

  // Moved into a folder of its own it is tried again with the next start.
  const [file = ''] = [(await readdir(folder)).find((name) => name.endsWith('.spool'))]
  await mkdir(join(folder, 'again'))
  await rename(join(folder, file), join(folder, 'again', file))
  await tables.pool.query('ALTER TABLE kommo.webhook_events DROP CONSTRAINT webhook_events_body_check')
  await inbox.close()
  await spool.close()
  spool = await openIt()
  start()
  await untilBack()
  expect((await stored()).requested).toBe(11n)
})
