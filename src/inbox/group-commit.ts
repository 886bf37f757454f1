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
  /** Items in one commit, at most. */
  maxBatch: number
  /** Items that may wait; one more is refused at once: memory is bounded. */
  maxWaiting: number
}

interface Waiting<Item> {
  item: Item
  resolve: () => void
  reject: (error: unknown) => void
}

/** More callers are waiting for a commit than memory allows. */
export class GroupCommitFullError extends Error {
  override readonly name = 'GroupCommitFullError'
}

/**
 * Adaptive group commit: what arrives while a commit is under way goes into the next one. No timer, so a lone
 * item is committed at once and a crowd shares one round trip and one fsync.
 */
export function createGroupCommit<Item>({
  commit,
  maxBatch,
  maxWaiting,
}: GroupCommitOptions<Item>): GroupCommit<Item> {
  let queue: Waiting<Item>[] = []
  let running: Promise<void> | null = null

  async function run(): Promise<void> {
    while (queue.length > 0) {
      const batch = queue.slice(0, maxBatch)
      queue = queue.slice(maxBatch)
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
      if (queue.length >= maxWaiting) {
        return Promise.reject(new GroupCommitFullError(`${maxWaiting} items wait for a commit already`))
      }
      return new Promise((resolve, reject) => {
        queue.push({ item, resolve, reject })
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
