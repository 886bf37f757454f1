import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { storeRecords } from '../../../src/store/records.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { SCOPE, recordSeen } from '../../helpers/sighting.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
  await database.pool.query(`INSERT INTO kommo.conversations (id, scope_id) VALUES ('conversation-1', $1)`, [
    SCOPE,
  ])
})
beforeEach(() => database.pool.query('TRUNCATE kommo.messages CASCADE'))
afterAll(() => database.drop())

async function isFound(text: string, words: string): Promise<boolean> {
  const { rows } = await database.pool.query<{ found: boolean }>(
    'SELECT kommo.search_vector($1) @@ kommo.search_query($2) AS found',
    [text, words],
  )
  return rows[0]?.found ?? false
}

test.each([
  ['Qual é o PREÇO da entrega?', 'preco'],
  ['Os preços das entregas', 'preço entrega'],
  ['Aceitam cartões?', 'cartao'],
  ['¿Cuánto cuesta el ENVÍO?', 'envio'],
  ['Hay varias promociones', 'promocion'],
  ['Gracias, mañana recojo los pedidos', 'pedido manana'],
  ['Where are my orders?', 'order'],
  ['One order, please', 'ORDERS'],
  ['Когда будет ДОСТАВКА заказа?', 'доставку заказ'],
  ['Пришлите счёт', 'счета'],
  ['Какой-то чай', 'ЧАЙ'],
  ['Invoice 2026-117 for anna@example.com', 'anna@example.com'],
  ['Pedido 483920 saiu', '483920'],
  ['доставка в Madrid', 'madrid доставки'],
  // Accents as letters of their own, as macOS writes them.
  ['preço чай'.normalize('NFD'), 'preço чай'],
])('%j is found by %j', async (text, words) => {
  expect(await isFound(text, words)).toBe(true)
})

test.each([
  ['Qual é o preço?', 'preciso'],
  ['доставка завтра', 'доставка -завтра'],
  ['заказ и оплата', '"оплата заказ"'],
  ['one order', 'order delivery'],
])('%j is not found by %j', async (text, words) => {
  expect(await isFound(text, words)).toBe(false)
})

test('"or" finds either, quotes find a phrase', async () => {
  expect(await isFound('a primeira entrega', 'oferta or entrega')).toBe(true)
  expect(await isFound('a primeira entrega', '"primeira entrega"')).toBe(true)
})

test('messages are found as rows of the table', async () => {
  await storeRecords(
    database.prisma,
    [recordSeen({ id: 'a', text: 'Olá, o preço?' }), recordSeen({ id: 'b' })],
    null,
  )
  const { rows } = await database.pool.query(
    `SELECT id FROM kommo.search_messages('preços') WHERE scope_id = $1`,
    [SCOPE],
  )
  expect(rows).toEqual([{ id: 'a' }])
})

test('no text is too long or too odd to be stored', async () => {
  const different = Array.from(
    { length: 120_000 },
    (_, n) => String.fromCodePoint(0x4e00 + (n % 20_000)) + n,
  ).join(' ')
  const texts = [
    different,
    'x'.repeat(1_000_000),
    '😀'.repeat(100_000),
    '\u{301}'.repeat(50_000),
    '가'.repeat(100_000),
    ' ',
  ]
  const records = texts.map((text, n) => recordSeen({ id: `odd-${n}`, text }))
  expect(await storeRecords(database.prisma, records, null)).toMatchObject({ inserted: texts.length })
})
