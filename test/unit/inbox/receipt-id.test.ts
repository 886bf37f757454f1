import { expect, test } from 'vitest'
import { newReceiptId } from '../../../src/inbox/receipt-id.ts'

test('receipt ids are UUIDs of version 7: different, and in the order of time', () => {
  const ids = [0, 1, 255, 256, Date.UTC(2026, 0, 1), Date.UTC(2200, 0, 1)].map((ms) => newReceiptId(ms))
  for (const id of ids) expect(id).toMatch(/^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/)
  expect(ids.toSorted()).toEqual(ids)
  expect(newReceiptId(1)).not.toBe(newReceiptId(1))
})
