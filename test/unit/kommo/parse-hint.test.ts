import { expect, test } from 'vitest'
import { parseHint } from '../../../src/kommo/parse-hint.ts'

const CHAT = '0b1c2d3e-4444-4a44-8a44-000000000004'
const OTHER = '0b1c2d3e-4444-4a44-8a44-000000000005'

const form = (fields: Record<string, string>) => Buffer.from(new URLSearchParams(fields).toString())

test('a new message names its chat and its origin, and nothing else is taken', () => {
  const body = form({
    'account[id]': '30000001',
    'account[subdomain]': 'invented',
    'message[add][0][id]': '0b1c2d3e-5555-4a55-8a55-000000000001',
    'message[add][0][chat_id]': CHAT,
    'message[add][0][talk_id]': '17',
    'message[add][0][text]': 'Good day & thanks = all',
    'message[add][0][author][name]': 'Client One',
    'message[add][0][origin]': 'amo.ext.invented',
  })
  expect(parseHint(body)).toEqual([{ chatId: CHAT, origin: 'amo.ext.invented' }])
})

test.each(['message[add]', 'message[add_outgoing]', 'outgoing_message[add]', 'message[update]'])(
  '%s is an event of a message',
  (event) => {
    expect(parseHint(form({ [`${event}[0][chat_id]`]: CHAT }))).toEqual([{ chatId: CHAT, origin: null }])
  },
)

test('brackets may come encoded or not', () => {
  expect(parseHint(Buffer.from(`message[add][0][chat_id]=${CHAT}`))).toHaveLength(1)
  expect(parseHint(Buffer.from(`message%5Badd%5D%5B0%5D%5Bchat_id%5D=${CHAT}`))).toHaveLength(1)
})

test('a chat is named once, however many of its messages come', () => {
  const body = form({
    'message[add][0][chat_id]': CHAT,
    'message[add][1][chat_id]': OTHER,
    'message[add][2][chat_id]': CHAT,
  })
  expect(parseHint(body).map(({ chatId }) => chatId)).toEqual([CHAT, OTHER])
})

test('at most 100 chats are taken', () => {
  const many = Array.from({ length: 150 }, (_, n) => [
    `message[add][${n}][chat_id]`,
    `0b1c2d3e-4444-4a44-8a44-${String(n).padStart(12, '0')}`,
  ])
  expect(parseHint(form(Object.fromEntries(many)))).toHaveLength(100)
})

test.each([
  ['nothing', ''],
  ['JSON', `{"message":{"add":[{"chat_id":"${CHAT}"}]}}`],
  ['broken encoding', 'message[add][0][chat_id]=%E0%A4%A'],
  ['no UUID', 'message[add][0][chat_id]=17'],
  ['a statement', "message[add][0][chat_id]='; DROP TABLE kommo.conversations"],
  ['another event', `talk[add][0][chat_id]=${CHAT}`],
  ['a field deeper down', `message[add][0][author][chat_id]=${CHAT}`],
  ['a prototype', '__proto__[chat_id]=1&constructor[prototype][0][chat_id]=2'],
  ['a name that is made to be slow', `${'message'.repeat(30_000)}=1`],
])('of %s nothing is usable', (_name, body) => {
  expect(parseHint(Buffer.from(body))).toEqual([])
})
