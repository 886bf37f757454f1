import { randomBytes } from 'node:crypto'
import { expect, test, vi } from 'vitest'
import { createTestDatabase } from '../../helpers/database.ts'
import { createOperator } from '../../helpers/operations/operator.ts'
import { PROXY } from '../../helpers/operations/proxy.ts'
import { expectTruth, refusals, setStage, untilStored } from '../../helpers/operations/stage.ts'
import { orSkipped, versionOf } from '../../helpers/operations/tools.ts'
import { SOON } from '../../helpers/soon.ts'
import { setUpTrio } from '../../helpers/operations/trio.ts'
import { untilSynced } from '../../helpers/synced.ts'
import { streamWebhooks } from '../../helpers/webhook-stream.ts'

const PSQL = versionOf('psql')
const PER_SECOND = 50

test.skipIf(PSQL === null)(
  `the database password is rotated under load by the documented steps and no webhook is refused; behind ${PROXY}, with ${orSkipped(['psql', PSQL])}`,
  async () => {
    await using stack = new AsyncDisposableStack()
    const stage = await setStage(stack)
    const database = await createTestDatabase()
    stack.defer(() => database.drop())
    const { pool } = database
    // A role of its own: the tests share the server's.
    const role = `rotating_${randomBytes(6).toString('hex')}`
    await pool.query(`
      CREATE ROLE ${role} LOGIN PASSWORD 'first-password';
      GRANT USAGE ON SCHEMA kommo, public TO ${role};
      GRANT ALL ON ALL TABLES IN SCHEMA kommo, public TO ${role};
      GRANT ALL ON ALL SEQUENCES IN SCHEMA kommo TO ${role}`)
    stack.defer(async () => {
      await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
    })
    const urlWith = (password: string) => {
      const url = new URL(database.url)
      url.username = role
      url.password = password
      return url.href
    }
    const { proxy, restart } = await setUpTrio(stack, stage)
    const operator = stack.use(await createOperator({ DATABASE_URL: urlWith('first-password') }))
    const names = ['first', 'second', 'worker'] as const
    const env = { DATABASE_URL: urlWith('first-password') }
    await Promise.all(names.map((name) => restart(name, env)))
    await using stream = streamWebhooks(proxy.url, stage.webhooks(stage.addChats(10)), PER_SECOND)
    await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(50), SOON)

    await operator.run('rotate-password', { NEW_PASSWORD: "second'password" })
    // Who loses its sessions now cannot have new ones.
    await pool.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [role])
    const before = stream.deliveries.length
    await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(before + 50), SOON)
    for (const name of names) await restart(name, { DATABASE_URL: urlWith("second'password") })

    const deliveries = await stream.stop()
    expect(refusals(deliveries), proxy.output()).toEqual([])
    await untilStored(pool, deliveries)
    await untilSynced(pool)
    await expectTruth(pool, stage.kommo)
  },
)
