import { expect, test, vi } from 'vitest'
import { createOperator } from '../../helpers/operations/operator.ts'
import { hasDumpableServer, startDumpableServer } from '../../helpers/operations/packaged-postgres.ts'
import { expectTruth, openPool, refusals, setStage, untilStored } from '../../helpers/operations/stage.ts'
import { orSkipped, versionOf } from '../../helpers/operations/tools.ts'
import { SOON } from '../../helpers/soon.ts'
import { runCommand } from '../../helpers/service.ts'
import { untilSynced } from '../../helpers/synced.ts'
import { streamWebhooks } from '../../helpers/webhook-stream.ts'

const PSQL = versionOf('psql')
const PG_DUMP = versionOf('pg_dump')

test.skipIf(PSQL === null || !hasDumpableServer())(
  `a backup is restored by the documented commands while webhooks come in: none is refused, and afterwards the tables equal the truth; with ${orSkipped(['pg_dump', PG_DUMP], ['psql', PSQL])}`,
  async () => {
    await using stack = new AsyncDisposableStack()
    const stage = await setStage(stack)
    const server = stack.use(await startDumpableServer())
    const env = { ...stage.settings, DATABASE_URL: server.urlOf('kommo') }
    const operator = stack.use(await createOperator({ ...env, SERVER_URL: server.urlOf('postgres') }))
    const otherPool = openPool(stack, server.urlOf('postgres'))
    await otherPool.query('CREATE DATABASE kommo')
    const pool = openPool(stack, env.DATABASE_URL)
    const receiver = await stage.start({ ...env, ROLE: 'receiver' })
    let worker = await stage.start({ ...env, ROLE: 'worker' })

    const before = stage.addChats(12)
    await stage.tell(receiver.url, before)
    await untilSynced(pool)
    await operator.run('backup')

    // What the backup does not have: chats that go on, and new ones.
    for (const chat of before) await chat.managerWrites('After the backup')
    const after = stage.addChats(3)
    await stage.tell(receiver.url, [...before, ...after])
    await untilSynced(pool)

    await worker.stop()
    await otherPool.query('DROP DATABASE kommo WITH (FORCE)')
    await using stream = streamWebhooks(receiver.url, stage.webhooks(before), 30)
    await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(30), SOON)
    await operator.run('restore')
    const atTheEnd = stream.deliveries.length
    await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(atTheEnd + 30), SOON)
    const deliveries = await stream.stop()
    expect(refusals(deliveries)).toEqual([])
    await untilStored(pool, deliveries)

    await operator.run('read-again')
    worker = await stage.start({ ...env, ROLE: 'worker' })
    const known = await pool.query('SELECT FROM kommo.conversations')
    expect(known.rowCount).toBe(before.length)
    const scope = ['--scope', stage.kommo.scopeId]
    expect(await runCommand(['backfill', ...after.map(({ id }) => id), ...scope], env)).toMatchObject({
      code: 0,
    })
    await untilSynced(pool)
    const { rows } = await pool.query<{ n: number }>('SELECT count(*)::int AS n FROM kommo.messages')
    const inKommo = stage.kommo.conversations.all().reduce((sum, { size }) => sum + size, 0)
    expect(rows[0]?.n).toBe(inKommo)
    // The integration's own id of a chat is told by webhooks alone.
    await stage.tell(receiver.url, after)
    await untilSynced(pool)
    await expectTruth(pool, stage.kommo)
    expect(await operator.run('verify')).not.toBe('')
    expect(await operator.run('revive')).toContain('No conversation is dead')
    await Promise.all([receiver.stop(), worker.stop()])
  },
)
