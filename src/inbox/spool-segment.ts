import { type FileHandle, open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { syncFolder } from './sync-folder.ts'

export interface SegmentWriter {
  path: string
  /** Durable bytes. */
  readonly bytes: number
  /** Resolves when the bytes are durable. After a failure: `close`. */
  append(bytes: Buffer): Promise<void>
  /** Nothing more is written. A segment without a byte is removed. */
  close(): Promise<void>
}

/** A file that only grows. */
export async function createSegment(path: string): Promise<SegmentWriter> {
  const file = await open(path, 'ax', 0o600)
  let durable = 0
  try {
    await syncFolder(dirname(path))
  } catch (error) {
    await file.close()
    await rm(path, { force: true }).catch(() => {})
    throw error
  }
  return {
    path,
    get bytes() {
      return durable
    },
    async append(bytes) {
      try {
        await writeAll(file, bytes)
        await file.datasync()
        durable += bytes.length
      } catch (error) {
        // Nobody was told that these bytes are kept; reading would pass over half a record all the same.
        await file.truncate(durable).catch(() => {})
        throw error
      }
    },
    async close() {
      await file.close()
      if (durable === 0) await rm(path, { force: true })
    },
  }
}

async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let left = bytes; left.length > 0;) {
    const { bytesWritten } = await file.write(left)
    left = left.subarray(bytesWritten)
  }
}
