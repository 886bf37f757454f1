import { expect, test } from 'vitest'
import { createTestDatabase } from '../../helpers/database.ts'
import { createOperator } from '../../helpers/operations/operator.ts'
import { expectTruth, setStage } from '../../helpers/operations/stage.ts'
import { orSkipped, versionOf } from '../../helpers/operations/tools.ts'
import { untilSynced } from '../../helpers/synced.ts'

const PSQL = versionOf('psql')

test.skipIf(PSQL === null)(
  `one chat is deleted by the documented commands with all that is known of its client, and nothing of another; with ${orSkipped(['psql', PSQL])}`,
  async () => {
    await using stack = new AsyncDisposableStack()
    const stage = await setStage(stack)
    const database = await createTestDatabase()
    stack.defer(() => database.drop())
    const { pool } = database
    const [asked, other, again] = stage.addChats(3)
    if (!asked || !other || !again) throw new Error('unreachable: three were added')
    const service = await stage.start({ DATABASE_URL: database.url, RECONCILE_INTERVAL: '0' })
    await stage.tell(service.url, [asked, other, again])
    await untilSynced(pool)
    await service.stop()

    // Whom the third chat is with too.
    await pool.query(
      `UPDATE kommo.conversation_clients SET participant_id = (
         SELECT participant_id FROM kommo.conversation_clients WHERE conversation_id = $1) WHERE conversation_id = $2`,
      [other.id, again.id],
    )
    const rowsAbout = async (id: string) => {
      const { rows } = await pool.query<{ table: string }>(
        `SELECT name AS table FROM (VALUES
           ('conversations', (SELECT count(*) FROM kommo.conversations WHERE id = $1)),
           ('messages', (SELECT count(*) FROM kommo.messages WHERE conversation_id = $1)),
           ('webhook_events', (SELECT count(*) FROM kommo.webhook_events WHERE conversation_id = $1)),
           ('participants', (SELECT count(*) FROM kommo.participants JOIN kommo.conversation_clients
             ON participant_id = participants.id AND conversation_id = $1))) AS t (name, held) WHERE held > 0`,
        [id],
      )
      return rows.map(({ table }) => table)
    }
    const client = 'SELECT participant_id FROM kommo.conversation_clients WHERE conversation_id = $1'
    const clientOf = async ({ id }: { id: string }) =>
      (await pool.query<{ participant_id: string }>(client, [id])).rows[0]?.participant_id
    const [askedFor, shared] = [await clientOf(asked), await clientOf(other)]
    const everything = ['conversations', 'messages', 'webhook_events', 'participants']
    expect(await rowsAbout(asked.id)).toEqual(everything)

    const operator = stack.use(await createOperator({ DATABASE_URL: database.url }))
    const known = async (id: string | undefined) =>
      (await pool.query('SELECT FROM kommo.participants WHERE id = $1', [id])).rowCount
    expect(await operator.run('forget', { CONVERSATION_ID: asked.id })).toMatch(/\nDELETE 1\n$/)
    expect(await operator.run('forget', { CONVERSATION_ID: asked.id })).toMatch(/\nDELETE 0\n$/)
    expect(await rowsAbout(asked.id)).toEqual([])
    expect(await known(askedFor)).toBe(0)
    expect(await rowsAbout(other.id)).toEqual(everything)

    await operator.run('forget', { CONVERSATION_ID: other.id })
    expect(await rowsAbout(other.id)).toEqual([])
    expect(await known(shared)).toBe(1)
    expect(await rowsAbout(again.id)).toEqual(everything)
  },
)

test('webhooks that could not be worked in are worked in by the documented commands', async () => {
  await using stack = new AsyncDisposableStack()
  const stage = await setStage(stack)
  const database = await createTestDatabase()
  stack.defer(() => database.drop())
  const { pool } = database
  const chats = stage.addChats(2)
  const service = await stage.start({ DATABASE_URL: database.url })
  await stage.tell(service.url, chats)
  await untilSynced(pool)
  // As a version leaves them that does not understand what they say.
  await pool.query("UPDATE kommo.webhook_events SET error = 'not understood'")
  await pool.query('DELETE FROM kommo.messages')

  const operator = stack.use(await createOperator({ ...stage.settings, DATABASE_URL: database.url }))
  const told = await operator.run('replay')
  expect(told).toMatch(/6 webhook/)
  await untilSynced(pool)
  const { rows } = await pool.query(
    'SELECT count(*)::int AS failed FROM kommo.webhook_events WHERE error IS NOT NULL',
  )
  expect(rows).toEqual([{ failed: 0 }])
  await operator.run('read-again')
  await untilSynced(pool)
  await expectTruth(pool, stage.kommo)
})
