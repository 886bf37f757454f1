import { expect, test } from 'vitest'
import {
  type GroupCommitOptions,
  GroupCommitFullError,
  createGroupCommit,
} from '../../../src/inbox/group-commit.ts'

/** A commit whose end the test decides. */
function controlledCommit() {
  const batches: { items: readonly number[]; end: PromiseWithResolvers<void> }[] = []
  return {
    batches,
    commit(items: readonly number[]) {
      const end = Promise.withResolvers<void>()
      batches.push({ items, end })
      return end.promise
    },
  }
}

/** Items are numbers that weigh what they are. */
function groupCommit(
  commit: (items: readonly number[]) => Promise<void>,
  bounds: Partial<Pick<GroupCommitOptions<number>, 'batch' | 'queue'>> = {},
) {
  return createGroupCommit({
    commit,
    bytesOf: (item) => item,
    batch: { items: 10, bytes: 1000 },
    queue: { items: 10, bytes: 1000 },
    ...bounds,
  })
}

test('a lone item is committed at once', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit)
  const added = group.add(1)
  expect(batches.map(({ items }) => items)).toEqual([[1]])
  batches[0]?.end.resolve()
  await added
})

test('what arrives while a commit is under way goes into the next one', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit)
  const all = [1, 2, 3].map((item) => group.add(item))
  batches[0]?.end.resolve()
  await all[0]
  expect(batches.map(({ items }) => items)).toEqual([[1], [2, 3]])
  batches[1]?.end.resolve()
  await Promise.all(all)
  await group.drain()
})

test('nobody is told of success before the commit', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit)
  let told = false
  const added = group.add(1).then(() => (told = true))
  await new Promise((resolve) => setImmediate(resolve))
  expect(told).toBe(false)
  batches[0]?.end.resolve()
  await added
})

test('a commit that fails fails its own items and no others', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit)
  const first = group.add(1)
  const second = group.add(2)
  batches[0]?.end.reject(new Error('away'))
  await expect(first).rejects.toThrow('away')
  batches[1]?.end.resolve()
  await expect(second).resolves.toBeUndefined()
})

test('a batch is bounded', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit, { batch: { items: 2, bytes: 1000 } })
  const all = [1, 2, 3, 4].map((item) => group.add(item))
  batches[0]?.end.resolve()
  await all[0]
  batches[1]?.end.resolve()
  await all[2]
  expect(batches.map(({ items }) => items)).toEqual([[1], [2, 3], [4]])
  batches[2]?.end.resolve()
  await Promise.all(all)
})

test('what waits is bounded: one more is refused at once', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit, { queue: { items: 2, bytes: 1000 } })
  const all = [1, 2, 3].map((item) => group.add(item))
  await expect(group.add(4)).rejects.toThrow(GroupCommitFullError)
  expect(group.waiting).toBe(2)
  batches[0]?.end.resolve()
  await all[0]
  batches[1]?.end.resolve()
  await Promise.all(all)
})

test('both are bounded in bytes too, and what is freed can be used again', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit, { batch: { items: 10, bytes: 100 }, queue: { items: 10, bytes: 150 } })
  const all = [1, 60, 50, 40].map((item) => group.add(item))
  await expect(group.add(1)).rejects.toThrow(GroupCommitFullError)
  batches[0]?.end.resolve()
  await all[0]
  expect(batches[1]?.items).toEqual([60])
  const late = group.add(60)
  batches[1]?.end.resolve()
  await all[1]
  expect(batches[2]?.items).toEqual([50, 40])
  batches[2]?.end.resolve()
  await all[3]
  expect(batches[3]?.items).toEqual([60])
  batches[3]?.end.resolve()
  await late
})

test('an item that is larger than a batch goes alone', async () => {
  const { batches, commit } = controlledCommit()
  const group = groupCommit(commit, { batch: { items: 10, bytes: 10 } })
  const added = group.add(500)
  expect(batches[0]?.items).toEqual([500])
  batches[0]?.end.resolve()
  await added
})
