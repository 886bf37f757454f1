import { expect, test } from 'vitest'
import { startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { createTestDatabase } from '../helpers/database.ts'
import { pgbouncerVersion, startPgBouncer } from '../helpers/pgbouncer.ts'
import { runCommand, startService, untilReady } from '../helpers/service.ts'
import { untilSynced } from '../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../helpers/truth.ts'
import { createWebhookSender, forEachAtOnce } from '../helpers/webhook-sender.ts'

const version = pgbouncerVersion()

test.skipIf(version === null)(
  `behind PgBouncer ${version ?? '(skipped: not installed)'} in transaction mode webhooks are taken, histories walked and commands work; the log says that it polls`,
  async () => {
    await using kommo = Object.assign(await startSimulatedKommo(), {
      [Symbol.asyncDispose]: () => kommo.close(),
    })
    // Migrations need a session of their own, and so an address that leads past the pooler.
    const database = await createTestDatabase()
    try {
      await using pooler = await startPgBouncer(database.url)
      const env = {
        DATABASE_URL: pooler.url,
        KOMMO_BASE_URL: kommo.url,
        KOMMO_CHANNEL_ID: kommo.channelId,
        KOMMO_CHANNEL_SECRET: kommo.channelSecret,
        KOMMO_REQUESTS_PER_SECOND: '500',
      }
      // Two at once, so that sessions are many and connections few.
      const [service, other] = await Promise.all([startService(env), startService(env)])
      try {
        await using sender = createWebhookSender(service.url)
        await using otherSender = createWebhookSender(other.url)
        const chats = [0, 1, 30, 60, 200, 700, ...Array.from({ length: 40 }, () => 20)].map((messages, n) =>
          kommo.conversations.generate({ messages, seed: `pgbouncer ${n}` }),
        )
        const told = chats.flatMap((chat) =>
          [...chat.messages()]
            .filter(({ receiver }) => receiver !== null)
            .slice(0, 8)
            .map((message) => kommo.webhooks.message(chat, message)),
        )
        let turn = 0
        const statuses = new Set<number>()
        await forEachAtOnce(told, 16, async (webhook) => {
          const { status } = await (turn++ % 2 === 0 ? sender : otherSender).send(webhook)
          statuses.add(status)
        })
        expect([...statuses]).toEqual([200])
        await Promise.all([service, other].map(untilReady))
        await untilSynced(database.pool)

        const { rows } = await database.pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
        expect(rows).toHaveLength(told.length)
        const known = new Set((await storedTables(database.pool)).conversations.keys())
        const expected = expectedTables(
          chats.filter(({ id }) => known.has(id)),
          rows.map(({ body }) => body),
        )
        expect(differences(await storedTables(database.pool), expected)).toEqual([])

        const errors = [service, other]
          .flatMap((each) => each.log())
          .filter(({ level }) => !['info', 'debug'].includes(level))
        expect(errors).toEqual([])
        for (const each of [service, other]) {
          expect(each.log().map(({ msg }) => msg)).toContainEqual(expect.stringMatching(/polling/))
        }
        const status = await runCommand(['status', '--json'], env)
        expect([status.code, status.stderr]).toEqual([0, ''])
        const full = await runCommand(['backfill', '--all'], env)
        expect([full.code, full.stdout]).toEqual([0, expect.stringContaining('Read ')])
      } finally {
        await Promise.all([service.stop(), other.stop()])
      }
    } finally {
      await database.drop()
    }
  },
)
