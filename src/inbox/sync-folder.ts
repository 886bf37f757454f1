import { open } from 'node:fs/promises'

/** Makes the names in a folder durable: a new file is not there after a power cut while its folder is not. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
