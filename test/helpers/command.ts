import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { runCommandLine } from '../../src/command-line.ts'

export interface CommandOutcome {
  code: number | string | null | undefined
  stdout: string
  stderr: string
}

/**
 * `kommo-sync …args` in this process, which saves the second that a process takes to start. That the process does the same is
 * seen in test/e2e.
 * @param input what it finds on standard input; else nothing is there
 */
export async function runHere(
  args: readonly string[],
  env: Record<string, string> = {},
  input = '',
): Promise<CommandOutcome> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const written = Promise.all([text(stdout), text(stderr)])
  const surroundings = { env, stdin: Readable.from([input]), stdout, stderr, exitCode: 0 }
  await runCommandLine(args, surroundings)
  stdout.end()
  stderr.end()
  const [out, error] = await written
  return { code: surroundings.exitCode, stdout: out, stderr: error }
}
