export interface GroupCommit<Item> {
  /** Resolves when the item is durable, rejects when it is not. */
  add(item: Item): Promise<void>
  /** Items that wait for a commit. */
  readonly waiting: number
  /** Resolves when everything added so far has been settled. */
  drain(): Promise<void>
}

export interface GroupCommitOptions<Item> {
  /** Makes all items durable together or none of them. */
  commit(items: readonly Item[]): Promise<void>
  bytesOf(item: Item): number
  /** What one commit holds at most; a larger item goes alone. */
  batch: Bounds
  /** What may wait; one more is refused at once, so memory is bounded. */
  queue: Bounds
}

export interface Bounds {
  items: number
  bytes: number
}

/** More callers are waiting for a commit than memory allows. */
export class GroupCommitFullError extends Error {
  override readonly name = 'GroupCommitFullError'
}

interface Waiting<Item> {
  item: Item
  bytes: number
  resolve: () => void
  reject: (error: unknown) => void
}

/**
 * Adaptive group commit: what arrives while a commit is under way goes into the next one. No timer, so a lone
 * item is committed at once and a crowd shares one round trip and one fsync.
 */
export function createGroupCommit<Item>({
  commit,
  bytesOf,
  batch: most,
  queue: room,
}: GroupCommitOptions<Item>): GroupCommit<Item> {
  let queue: Waiting<Item>[] = []
  let queuedBytes = 0
  let running: Promise<void> | null = null

  function takeBatch(): Waiting<Item>[] {
    let count = 0
    let bytes = 0
    for (const waiting of queue.slice(0, most.items)) {
      if (count > 0 && bytes + waiting.bytes > most.bytes) break
      count += 1
      bytes += waiting.bytes
    }
    const batch = queue.slice(0, count)
    queue = queue.slice(count)
    queuedBytes -= bytes
    return batch
  }

  async function run(): Promise<void> {
    while (queue.length > 0) {
      const batch = takeBatch()
      try {
        await commit(batch.map(({ item }) => item))
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    running = null
  }

  return {
    add(item) {
      const bytes = bytesOf(item)
      if (queue.length >= room.items || queuedBytes + bytes > room.bytes) {
        return Promise.reject(new GroupCommitFullError(`${queue.length} items wait for a commit already`))
      }
      return new Promise((resolve, reject) => {
        queue.push({ item, bytes, resolve, reject })
        queuedBytes += bytes
        running ??= run()
      })
    },
    get waiting() {
      return queue.length
    },
    async drain() {
      await running
    },
  }
}
