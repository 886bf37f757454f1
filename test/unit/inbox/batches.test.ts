import { expect, test } from 'vitest'
import { batchesOf } from '../../../src/inbox/batches.ts'

const weight = (item: number) => item

test.each([
  ['nothing is one empty batch', [], [[]]],
  ['a batch is bounded in items', [1, 1, 1, 1], [[1, 1, 1], [1]]],
  [
    'a batch is bounded in bytes',
    [5, 5, 1, 9],
    [
      [5, 5],
      [1, 9],
    ],
  ],
  ['what is larger than a batch goes alone', [50, 1, 50], [[50], [1], [50]]],
])('%s', (_fact, items, batches) => {
  expect(batchesOf(items, weight, { items: 3, bytes: 10 })).toEqual(batches)
})
