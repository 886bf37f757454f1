import { expect, test } from 'vitest'
import type { Conversation } from '../../../src/simulated-kommo/conversation.ts'
import { existingIds, setUpSync, type SyncSetup } from '../../helpers/worker.ts'

async function read(setup: SyncSetup, conversation: Conversation, full = false): Promise<void> {
  expect(await setup.read(conversation, { full })).toBe('finished')
}

async function missingIds({ database }: SyncSetup): Promise<string[]> {
  const rows = await database.prisma.message.findMany({ where: { missingSince: { not: null } } })
  return rows.map(({ id }) => id).toSorted()
}

/** The message at a place, from the newest. */
function idAt(conversation: Conversation, place: number): string {
  const [message] = conversation.page(place, 1)
  if (message === undefined) throw new Error(`there is no message at ${place}`)
  return message.id
}

test('an edit updates the message, and the earlier wording is kept', async () => {
  const setup = await setUpSync()
  const { simulated, database } = setup
  const conversation = simulated.conversations.generate({ messages: 3, seed: 1 })
  const { id } = conversation.addMessage({ type: 'text', text: 'Ten o’clok' })
  await read(setup, conversation)
  conversation.editMessage(id, { text: 'Ten o’clock' })
  await read(setup, conversation)
  conversation.editMessage(id, { text: 'Eleven o’clock' })
  await read(setup, conversation)
  await read(setup, conversation)

  const message = await database.prisma.message.findUniqueOrThrow({ where: { id } })
  expect(message.text).toBe('Eleven o’clock')
  const revisions = await database.prisma.messageRevision.findMany({ orderBy: { id: 'asc' } })
  expect(revisions.map(({ messageId, text }) => [messageId, text])).toEqual([
    [id, 'Ten o’clok'],
    [id, 'Ten o’clock'],
  ])
  expect(revisions[0]?.observedTo).toEqual(revisions[1]?.observedFrom)
  expect(revisions[1]?.observedTo).toEqual(message.observedAt)
})

test('a changed media link keeps the earlier one', async () => {
  const setup = await setUpSync()
  const conversation = setup.simulated.conversations.generate({ messages: 1, seed: 2 })
  const media = { type: 'picture', media: 'https://files.example/1.jpg', fileName: '1.jpg', fileSize: 5 }
  const { id } = conversation.addMessage(media)
  await read(setup, conversation)
  conversation.editMessage(id, { media: 'https://files.example/2.jpg' })
  await read(setup, conversation)
  const [revision] = await setup.database.prisma.messageRevision.findMany()
  expect(revision?.media).toMatchObject({
    url: 'https://files.example/1.jpg',
    file_name: '1.jpg',
    file_size: 5,
  })
})

test.each([
  ['at the head', 0],
  ['in the middle of a page', 20],
  ['near the seam of two pages', 49],
  ['on the last page', 119],
  ['the oldest', 129],
])(
  'a message that is gone is marked, not deleted, and comes back if it comes back: %s',
  async (_where, place) => {
    const setup = await setUpSync()
    const conversation = setup.simulated.conversations.generate({ messages: 130, seed: 3 })
    await read(setup, conversation)
    const all = existingIds(conversation)
    const gone = idAt(conversation, place)
    conversation.removeMessage(gone)
    await read(setup, conversation, true)
    expect(await missingIds(setup)).toEqual([gone])
    expect(await setup.storedIds(conversation)).toEqual(all)
  },
)

test('an incremental read marks what is gone from the page that it reads', async () => {
  const setup = await setUpSync()
  const conversation = setup.simulated.conversations.generate({ messages: 130, seed: 4 })
  await read(setup, conversation)
  const gone = [idAt(conversation, 3), idAt(conversation, 30)]
  for (const id of gone) conversation.removeMessage(id)
  await read(setup, conversation)
  expect(await missingIds(setup)).toEqual(gone.toSorted())
})

test('a history that answers as if it were empty marks all, and the next read brings all back', async () => {
  const setup = await setUpSync()
  const { simulated } = setup
  const conversation = simulated.conversations.generate({ messages: 130, seed: 5 })
  await read(setup, conversation)
  simulated.faults.add({ kind: 'status', status: 204, times: 1 })
  await read(setup, conversation)
  expect(await missingIds(setup)).toHaveLength(130)
  await read(setup, conversation)
  expect(await missingIds(setup)).toEqual([])
})

test('what only a webhook told of is not missing while the history is a moment behind', async () => {
  const setup = await setUpSync()
  const { simulated } = setup
  const conversation = simulated.conversations.generate({ messages: 60, seed: 6 })
  await read(setup, conversation)
  const message = conversation.addMessage({ from: 'manager', text: 'Just now' })
  await setup.receive(simulated.webhooks.message(conversation, message))
  conversation.removeMessage(message.id)
  setup.startWorker()
  await expect
    .poll(async () => (await setup.row(conversation))?.processed, { timeout: 10_000 })
    .toBe((await setup.row(conversation))?.requested)
  expect(await setup.storedIds(conversation)).toContain(message.id)
  expect(await missingIds(setup)).toEqual([])
})
