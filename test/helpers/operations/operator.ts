import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { documented } from './document.ts'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

export interface Operator extends AsyncDisposable {
  folder: string
  /**
   * Runs the commands that the document gives under this name.
   * @returns their standard output
   * @throws Error with everything they wrote, when one of them fails
   */
  run(name: string, env?: Record<string, string>, replacements?: Record<string, string>): Promise<string>
  /** A file that the commands have written. */
  read(file: string): Promise<string>
}

/** Somebody with a shell, in a folder of their own that looks like a checkout. */
export async function createOperator(settings: Record<string, string> = {}): Promise<Operator> {
  const folder = await mkdtemp(join(tmpdir(), 'operator-'))
  await symlink(join(ROOT, 'deploy'), join(folder, 'deploy'))
  // As the document says: this is what `kommo-sync` stands for in a checkout.
  const bin = join(folder, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'kommo-sync'), `#!/bin/sh\nexec npm --prefix '${ROOT}' run -s cli -- "$@"\n`)
  await chmod(join(bin, 'kommo-sync'), 0o755)

  return {
    folder,
    async run(name, env = {}, replacements = {}) {
      const child = spawn('bash', ['-euo', 'pipefail', '-c', documented(name, replacements)], {
        cwd: folder,
        env: { PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}`, HOME: folder, ...settings, ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const closed = once(child, 'close')
      const written = { stdout: '', stderr: '' }
      for (const stream of ['stdout', 'stderr'] as const) {
        child[stream].setEncoding('utf8').on('data', (text: string) => (written[stream] += text))
      }
      await closed
      if (child.exitCode === 0) return written.stdout
      throw new Error(`${name} ends with ${child.exitCode}\n${written.stdout}${written.stderr}`)
    },
    read: (file) => readFile(join(folder, file), 'utf8'),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  }
}
