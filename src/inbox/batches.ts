import type { Bounds } from './group-commit.ts'

/** Cuts a list into batches within bounds; a larger item goes alone. An empty list has one empty batch. */
export function batchesOf<Item>(
  items: readonly Item[],
  bytesOf: (item: Item) => number,
  most: Bounds,
): Item[][] {
  let batch: Item[] = []
  let bytes = 0
  const batches = [batch]
  for (const item of items) {
    const size = bytesOf(item)
    if (batch.length > 0 && (batch.length >= most.items || bytes + size > most.bytes)) {
      batch = []
      bytes = 0
      batches.push(batch)
    }
    batch.push(item)
    bytes += size
  }
  return batches
}
