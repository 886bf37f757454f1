import { readFile, readdir, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Logger } from 'pino'
import type { InboxWebhook } from '../domain/webhook.ts'
import { AppError } from '../errors.ts'
import { ownFolder } from './owned-folder.ts'
import { encodeRecord, readRecords } from './spool-record.ts'
import { type SegmentWriter, createSegment } from './spool-segment.ts'

/**
 * Webhooks on disk, in the order of their arrival: what is kept while the database cannot take it. One call at a time, but
 * for `size`.
 */
export interface Spool {
  /**
   * Resolves when all are durable.
   * @throws SpoolFullError, or the system's error: then none of them counts as kept
   */
  append(webhooks: readonly InboxWebhook[]): Promise<void>
  /** What was kept first. What is appended later goes elsewhere. */
  oldest(): Promise<SpooledSegment | null>
  /** The webhooks of the segment are kept elsewhere now. */
  remove(segment: SpooledSegment): Promise<void>
  /** Keeps webhooks in a file that nobody reads: moved into a folder of its own in the spool, a start takes it over. */
  setAside(webhooks: readonly InboxWebhook[]): Promise<void>
  readonly size: SpoolSize
  /** What is left stays for the next process. */
  close(): Promise<void>
}

export interface SpooledSegment {
  path: string
  webhooks: readonly InboxWebhook[]
  /** Stretches of it that cannot be read. */
  corrupt: number
}

export interface SpoolSize {
  webhooks: number
  bytes: number
  oldestAt: Date | null
}

export interface SpoolOptions {
  folder: string
  log: Logger
  /** A segment of this size is followed by a new one. It is read and removed whole. */
  segmentBytes: number
  /** All segments together; one byte more is refused. */
  mostBytes: number
}

/** The disk space for webhooks that wait for the database is used up. */
export class SpoolFullError extends AppError {
  constructor(bytes: number) {
    super(`The spool holds ${bytes} bytes and is full. Bring the database back`, {
      code: 'spool_full',
      retryable: true,
    })
  }
}

const EXTENSION = '.spool'

interface Segment {
  path: string
  webhooks: number
  bytes: number
  oldestAt: Date | null
}

/**
 * Opens a spool and takes over what dead processes have left in it.
 * @throws ConfigError when the folder cannot be used.
 */
export async function openSpool({ folder, log, segmentBytes, mostBytes }: SpoolOptions): Promise<Spool> {
  const own = await ownFolder(folder)
  const segments = await leftSegments(own.path)
  let writer: SegmentWriter | null = null
  let newest = nameTime(segments.at(-1))
  const left = sizeOf(segments)
  if (left.webhooks > 0) log.warn({ ...left }, 'an earlier process left webhooks in the spool')

  /** Names sort by time, also where the clock went back. */
  function nextName(): string {
    newest = Math.max(Date.now(), newest + 1)
    return `${String(newest).padStart(15, '0')}-${basename(own.path)}${EXTENSION}`
  }

  async function seal(): Promise<void> {
    const sealed = writer
    writer = null
    await sealed?.close()
  }

  return {
    async append(webhooks) {
      const now = new Date()
      const bytes = encodeAll(webhooks, now)
      const { bytes: used } = sizeOf(segments)
      if (used + bytes.length > mostBytes) throw new SpoolFullError(used)
      if (writer !== null && writer.bytes + bytes.length > segmentBytes) await seal()
      writer ??= await createSegment(join(own.path, nextName()))
      try {
        await writer.append(bytes)
      } catch (error) {
        // After a failed sync nobody knows what the file holds: it gets no more.
        await seal().catch(() => {})
        throw error
      }
      const { path } = writer
      const current = segments.at(-1)
      if (current?.path === path) {
        current.webhooks += webhooks.length
        current.bytes += bytes.length
      } else {
        segments.push({ path, webhooks: webhooks.length, bytes: bytes.length, oldestAt: now })
      }
    },

    async oldest() {
      const [segment] = segments
      if (segment === undefined) return null
      if (segment.path === writer?.path) await seal()
      const { webhooks, corrupt, tornBytes } = readRecords(await readFile(segment.path))
      const file = basename(segment.path)
      if (tornBytes > 0) log.info({ file, tornBytes }, 'the last record was never finished nor acknowledged')
      if (corrupt > 0) {
        log.error({ file, corrupt, read: webhooks.length }, 'a segment of the spool is damaged; it is kept')
      }
      return { path: segment.path, webhooks, corrupt }
    },

    async remove({ path, corrupt }) {
      // Perhaps somebody can read more of it than we can.
      if (corrupt > 0) await rename(path, join(folder, `${basename(path)}.corrupt`))
      else await rm(path, { force: true })
      if (segments[0]?.path === path) segments.shift()
    },

    async setAside(webhooks) {
      const file = await createSegment(join(folder, nextName()))
      try {
        await file.append(encodeAll(webhooks))
      } finally {
        await file.close()
      }
    },

    get size() {
      return sizeOf(segments)
    },

    async close() {
      await seal()
      await own.close()
    },
  }
}

function encodeAll(webhooks: readonly InboxWebhook[], now = new Date()): Buffer {
  return Buffer.concat(webhooks.map((webhook) => encodeRecord(webhook, now)))
}

/** Read whole once, to know how much there is. */
async function leftSegments(folder: string): Promise<Segment[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(EXTENSION)).toSorted()
  const segments: Segment[] = []
  for (const name of names) {
    const path = join(folder, name)
    const content = await readFile(path)
    const { webhooks } = readRecords(content)
    const oldestAt = webhooks[0]?.receivedAt ?? null
    if (content.length === 0) await rm(path)
    else segments.push({ path, webhooks: webhooks.length, bytes: content.length, oldestAt })
  }
  return segments
}

function nameTime(segment: Segment | undefined): number {
  return segment === undefined ? 0 : Number.parseInt(basename(segment.path), 10)
}

function sizeOf(segments: readonly Segment[]): SpoolSize {
  return {
    webhooks: segments.reduce((sum, segment) => sum + segment.webhooks, 0),
    bytes: segments.reduce((sum, segment) => sum + segment.bytes, 0),
    oldestAt: segments[0]?.oldestAt ?? null,
  }
}
