import cliProgress from 'cli-progress'

/** A terminal or a file, as a process has them; a test gives what it likes. */
export type TextStream = NodeJS.WritableStream & { isTTY?: boolean }

export interface Progress {
  update(done: number, note: string): void
  stop(): void
}

const LINE_EVERY_MS = 10_000

/** A bar in a terminal; a line now and then where nobody watches. */
export function createProgress(
  stream: TextStream,
  { total, unit }: { total: number; unit: string },
): Progress {
  if (!stream.isTTY) return createLines(stream, total, unit)
  const bar = new cliProgress.SingleBar({
    format: `{bar} {value}/{total} ${unit}  {note}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    stream,
    hideCursor: true,
  })
  bar.start(total, 0, { note: '' })
  return {
    update: (done, note) => bar.update(done, { note }),
    stop: () => bar.stop(),
  }
}

function createLines(stream: TextStream, total: number, unit: string): Progress {
  let nextLineAt = 0
  return {
    update(done, note) {
      if (Date.now() < nextLineAt) return
      nextLineAt = Date.now() + LINE_EVERY_MS
      stream.write(`${done}/${total} ${unit}${note === '' ? '' : `, ${note}`}\n`)
    },
    stop() {},
  }
}
