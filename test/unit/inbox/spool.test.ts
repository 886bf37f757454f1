import { fork } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFile,
  mkdir,
  mkdtemp,
  open as openFile,
  readFile,
  readdir,
  rm,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { ConfigError } from '../../../src/errors.ts'
import { type Spool, SpoolFullError, openSpool } from '../../../src/inbox/spool.ts'
import { createLogger } from '../../../src/logger.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'

let folder: string
let opened: Spool[]

beforeEach(async () => {
  opened = []
  folder = join(await mkdtemp(join(tmpdir(), 'spool-')), 'spool')
})
afterEach(async () => {
  await Promise.all(opened.map((spool) => spool.close()))
  await rm(join(folder, '..'), { recursive: true, force: true })
})

async function open({ segmentBytes = 10_000, mostBytes = 100_000 } = {}): Promise<Spool> {
  const spool = await openSpool({ folder, log: createLogger('silent'), segmentBytes, mostBytes })
  opened.push(spool)
  return spool
}

const hook = (n: number) => inboxWebhook({ messageId: `m${n}` })

/** Empties it. @returns the messages of each segment */
async function drain(spool: Spool): Promise<(string | null)[][]> {
  const read: (string | null)[][] = []
  for (let segment = await spool.oldest(); segment !== null; segment = await spool.oldest()) {
    read.push(segment.webhooks.map(({ messageId }) => messageId))
    await spool.remove(segment)
  }
  return read
}

/** The segment files of all processes, by their paths. */
async function files(): Promise<string[]> {
  const names = await readdir(folder, { recursive: true })
  return names.filter((name) => name.endsWith('.spool')).map((name) => join(folder, name))
}

test('gives back in order what was appended, and leaves no file', async () => {
  const spool = await open()
  await spool.append([hook(1), hook(2)])
  await spool.append([hook(3)])
  expect(spool.size).toMatchObject({ webhooks: 3, oldestAt: expect.any(Date) })
  expect(await drain(spool)).toEqual([['m1', 'm2', 'm3']])
  expect(spool.size).toEqual({ webhooks: 0, bytes: 0, oldestAt: null })
  expect(await files()).toEqual([])
  await spool.close()
  expect(await readdir(folder)).toEqual([])
})

test('what arrives after the oldest segment was taken goes into another', async () => {
  const spool = await open()
  await spool.append([hook(1)])
  const oldest = await spool.oldest()
  await spool.append([hook(2)])
  expect(oldest?.webhooks).toHaveLength(1)
  expect(await drain(spool)).toEqual([['m1'], ['m2']])
})

test('a segment is bounded', async () => {
  const spool = await open({ segmentBytes: 1500 })
  for (const n of [1, 2, 3, 4, 5, 6]) await spool.append([hook(n)])
  const read = await drain(spool)
  expect(read.length).toBeGreaterThan(1)
  expect(read.flat()).toEqual(['m1', 'm2', 'm3', 'm4', 'm5', 'm6'])
})

test('the whole is bounded; what was kept before stays, and what is removed makes room', async () => {
  const spool = await open({ segmentBytes: 700, mostBytes: 1500 })
  let kept = 0
  const fill = async () => {
    while (kept < 50) {
      await spool.append([hook(kept)])
      kept += 1
    }
  }
  await expect(fill()).rejects.toThrow(SpoolFullError)
  expect(spool.size.bytes).toBeLessThanOrEqual(1500)
  expect(spool.size.webhooks).toBe(kept)
  expect((await drain(spool)).flat()).toHaveLength(kept)
  await spool.append([hook(kept)])
})

test('a failing disk refuses, and costs nothing that was kept before or comes after', async () => {
  const spool = await open()
  await spool.append([hook(1)])
  await drain(spool)
  const [own = ''] = await readdir(folder)
  // The folder is gone from under it: no new file can be made.
  await rm(join(folder, own), { recursive: true })
  await expect(spool.append([hook(2)])).rejects.toThrow('ENOENT')
  await mkdir(join(folder, own))
  await spool.append([hook(3)])
  expect(await drain(spool)).toEqual([['m3']])
})

/** Looks at every call for which files are opened; the calls go through, but for those that are told to fail. */
async function watchDisk() {
  const probe = await openFile(tmpdir())
  const handle: Record<'write' | 'sync' | 'datasync', (...args: unknown[]) => Promise<unknown>> =
    Object.getPrototypeOf(probe)
  await probe.close()
  const done: string[] = []
  const failing = new Set<string>()
  for (const name of ['write', 'sync', 'datasync'] as const) {
    const real = handle[name]
    const watched = vi.spyOn(handle, name).mockImplementation(async function (this: unknown, ...args) {
      if (failing.has(name)) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })
      const result = await real.apply(this, args)
      done.push(name)
      return result
    })
    onTestFinished(() => watched.mockRestore())
  }
  return { done, failing }
}

test('nothing counts as kept before it is flushed, and a new file not before its name is', async () => {
  const spool = await open()
  const { done } = await watchDisk()
  await spool.append([hook(1)])
  expect(done).toEqual(['sync', 'write', 'datasync'])
  await spool.append([hook(2)])
  expect(done.slice(3)).toEqual(['write', 'datasync'])
})

test.each([
  ['datasync', 10_000],
  // A new file for each, and so a new name in the folder.
  ['sync', 1],
] as const)(
  'a disk that fails to flush (%s) refuses, and what it refused is not on it afterwards',
  async (call, segmentBytes) => {
    const spool = await open({ segmentBytes })
    const { failing } = await watchDisk()
    await spool.append([hook(1)])
    failing.add(call)
    await expect(spool.append([hook(2)])).rejects.toThrow('EIO')
    await expect(spool.append([hook(3), hook(4)])).rejects.toThrow('EIO')
    failing.clear()
    await spool.append([hook(5)])
    expect(spool.size.webhooks).toBe(2)
    expect((await drain(spool)).flat()).toEqual(['m1', 'm5'])
    expect(await files()).toEqual([])
  },
)

test('what a process left is taken over first, in its order, though its last record was never finished', async () => {
  const before = await open({ segmentBytes: 700 })
  for (const n of [1, 2, 3]) await before.append([hook(n)])
  await before.close()
  const last = (await files()).toSorted().at(-1) ?? ''
  const record = await readFile(last)
  await appendFile(last, record.subarray(0, record.length - 5))
  await writeFile(last.replace(/\d{15}/, '9'.repeat(15)), '')

  const spool = await open()
  expect(spool.size.webhooks).toBe(3)
  await spool.append([hook(4)])
  expect((await drain(spool)).flat()).toEqual(['m1', 'm2', 'm3', 'm4'])
  expect(await files()).toEqual([])
})

test('a damaged segment is kept aside, and what can be read of it and after it is given', async () => {
  const before = await open({ segmentBytes: 1200 })
  for (const n of [1, 2, 3, 4]) await before.append([hook(n)])
  await before.close()
  const [first = ''] = (await files()).toSorted()
  const bytes = await readFile(first)
  bytes[60] = (bytes[60] ?? 0) ^ 1
  await writeFile(first, bytes)

  const spool = await open()
  expect((await drain(spool)).flat()).toEqual(['m2', 'm3', 'm4'])
  expect((await readdir(folder)).filter((name) => name.endsWith('.corrupt'))).toHaveLength(1)
})

test('the files of a living process are left alone, those of a killed one are taken over', async () => {
  const neighbour = fork(fileURLToPath(new URL('../../helpers/spool-process.ts', import.meta.url)), [folder])
  await once(neighbour, 'message')
  const spool = await open()
  expect(spool.size.webhooks).toBe(0)
  expect(await files()).toHaveLength(1)

  neighbour.kill('SIGKILL')
  await once(neighbour, 'exit')
  const [one, other] = await Promise.all([open(), open()])
  expect(one.size.webhooks + other.size.webhooks).toBe(2)
})

test('a folder that cannot be used is a fault of the configuration', async () => {
  await writeFile(folder, 'a file')
  await expect(open()).rejects.toThrow(ConfigError)
  folder = join(folder, '..', 'long'.repeat(60))
  await expect(open()).rejects.toThrow(/^DATA_DIR: the path is too long/)
})
