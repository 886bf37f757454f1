/**
 * A reader that goes away (`kommo-sync status | head -1`) ends what is printed, not what is done: without a listener the
 * stream's error would end the process in the middle of its work.
 */
export function outliveReader(stream: NodeJS.WritableStream): void {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}
