import { execFileSync, spawnSync } from 'node:child_process'
import { open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunningService } from './service.ts'

/** A disk of the service that a test can fill, and that an ordinary user can set up. */
export interface SmallDisk {
  name: string
  /** The system's word for it. */
  code: 'EFBIG' | 'ENOSPC'
  isAvailable: boolean
  /** For `startService`. */
  within: readonly string[]
  /** The folder of the service, as this process sees it. */
  pathOf(service: RunningService, dataDir: string): string
  /** Leaves room for a few webhooks; the one after them fits in part. */
  squeeze(service: RunningService, dataDir: string): Promise<void>
  /** Leaves room for no webhook. */
  fill(service: RunningService, dataDir: string): Promise<void>
  /** There is room again. */
  free(service: RunningService, dataDir: string): Promise<void>
}

function limitFiles({ pid }: RunningService, bytes: number | 'unlimited'): void {
  execFileSync('prlimit', [`--pid=${pid}`, `--fsize=${bytes}:unlimited`])
}

/** A limit on the size of each file (`ulimit -f`): writes stop at the very byte. */
const limitedFiles: SmallDisk = {
  name: 'a limit on files',
  code: 'EFBIG',
  isAvailable: spawnSync('prlimit', ['--version']).status === 0,
  within: [],
  pathOf: (_service, dataDir) => dataDir,
  squeeze: async (service) => limitFiles(service, 6000),
  fill: async (service) => limitFiles(service, 100),
  free: async (service) => limitFiles(service, 'unlimited'),
}

const NEW_MOUNTS = ['unshare', '--user', '--map-root-user', '--mount'] as const
const MOUNT = 'mkdir -p "$DATA_DIR" && mount -t tmpfs -o size=256k none "$DATA_DIR" && exec "$@"'
const BALLAST = 'ballast'

async function addBallast(folder: string, bytes: number): Promise<void> {
  const file = await open(join(folder, BALLAST), 'a')
  try {
    for (let left = bytes; left > 0;) {
      const { bytesWritten } = await file.write(Buffer.alloc(Math.min(left, 4096), 1))
      left -= bytesWritten
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
  } finally {
    await file.close()
  }
}

/** A file system of 256 KiB that only the service sees, made in a namespace of its own. */
const smallFileSystem: SmallDisk = {
  name: 'a file system',
  code: 'ENOSPC',
  isAvailable: spawnSync('unshare', ['-Ur', '--mount', 'mount', '-t', 'tmpfs', 'none', '/tmp']).status === 0,
  within: [...NEW_MOUNTS, 'sh', '-c', MOUNT, 'sh'],
  pathOf: ({ pid }, dataDir) => join(`/proc/${pid}/root`, dataDir),
  async squeeze(service, dataDir) {
    const folder = this.pathOf(service, dataDir)
    const { bavail, bsize } = await statfs(folder)
    await addBallast(folder, bavail * bsize - 3 * 4096)
  },
  async fill(service, dataDir) {
    await addBallast(this.pathOf(service, dataDir), 1024 * 1024)
  },
  async free(service, dataDir) {
    await rm(join(this.pathOf(service, dataDir), BALLAST))
  },
}

export const smallDisks: readonly SmallDisk[] = [limitedFiles, smallFileSystem]
