import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { vi } from 'vitest'
import { z } from 'zod'
import { CHILD_ENVIRONMENT } from './child-environment.ts'
import { SOON } from './soon.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const logLine = z.looseObject({ level: z.string(), msg: z.string().optional() })
export type LogLine = z.infer<typeof logLine>

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface RunningService extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`. */
  url: string
  pid: number
  /** Its `DATA_DIR`. */
  dataDir: string
  /** The JSON lines of its log so far. */
  log(): LogLine[]
  /** Everything it has written, stdout and stderr. */
  output(): string
  stopReading(): void
  exited: Promise<Exit>
  /** Sends the signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Exit>
}

/** Whatever happens to a test, no child and no folder outlives its file. */
const children = new Set<ChildProcess>()
const folders = mkdtempSync(join(tmpdir(), 'kommo-sync-'))
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folders, { recursive: true, force: true })
})

interface Started {
  child: ChildProcess
  output(): string
  stdout(): string
  stderr(): string
  /** Goes away, as the reader of `… | head -1` does. */
  stopReading(): void
  exited: Promise<Exit>
}

/** Nothing of this process's own environment but what a process needs to run. */
function start(
  command: string,
  args: readonly string[],
  env: Record<string, string>,
  input?: string,
): Started {
  const child = spawn(command, args, {
    cwd: ROOT,
    env: { ...CHILD_ENVIRONMENT, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  // One that does not read may be gone.
  child.stdin.on('error', () => {}).end(input)
  children.add(child)
  let all = ''
  const parts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      all += text
      parts[name] += text
    })
  }
  const exited = once(child, 'close').then((): Exit => {
    children.delete(child)
    return { code: child.exitCode, signal: child.signalCode }
  })
  return {
    child,
    output: () => all,
    stdout: () => parts.stdout,
    stderr: () => parts.stderr,
    stopReading() {
      child.stdout.destroy()
      child.stderr.destroy()
    },
    exited,
  }
}

export interface StartOptions {
  timeoutMs?: number
  /** A command that becomes the service: it takes the service's own command as its last arguments. */
  within?: readonly string[]
}

/** Runs `src/server.ts` on a free port and waits until it is ready; ends it when disposed. */
export async function startService(
  env: Record<string, string>,
  { timeoutMs = 60_000, within = [] }: StartOptions = {},
): Promise<RunningService> {
  const [command, ...args] = [...within, process.execPath, 'src/server.ts']
  // Nobody else's spool.
  const dataDir = env['DATA_DIR'] ?? join(folders, randomUUID())
  const { child, output, stopReading, exited } = start(command, args, {
    HOST: '127.0.0.1',
    DRAIN_DELAY: '0',
    PORT: '0',
    ...env,
    DATA_DIR: dataDir,
  })
  let ended: Exit | undefined
  void exited.then((exit) => (ended = exit))

  const log = () => logLines(output())
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal)
    return exited
  }
  try {
    const url = await vi.waitFor(() => addressIn(log(), ended, output), { timeout: timeoutMs, interval: 20 })
    await vi.waitFor(
      async () => {
        const { status } = await fetch(`${url}/readyz`)
        if (status !== 200) throw new Error(`/readyz answers ${status}\n${output()}`)
      },
      { timeout: timeoutMs, interval: 20 },
    )
    return {
      url,
      pid: child.pid ?? 0,
      dataDir,
      log,
      output,
      stopReading,
      exited,
      stop,
      [Symbol.asyncDispose]: () => end(child, exited),
    }
  } catch (error) {
    await end(child, exited)
    throw error
  }
}

/**
 * Resolves when the service calls itself ready: then the database has everything that was acknowledged. A commit that a busy
 * machine holds up for most of a second sends webhooks to the disk for a moment, rightly.
 */
export async function untilReady({ url }: Pick<RunningService, 'url'>): Promise<void> {
  await vi.waitFor(async () => {
    const answer = await fetch(`${url}/readyz`)
    if (answer.status !== 200) throw new Error(`/readyz answers ${answer.status} ${await answer.text()}`)
  }, SOON)
}

function addressIn(lines: readonly LogLine[], ended: Exit | undefined, output: () => string): string {
  const address = lines.find(({ msg }) => msg === 'listening')?.['address']
  if (typeof address === 'string') return address
  throw new Error(
    `the service ${ended === undefined ? 'does not listen yet' : `has ended (${JSON.stringify(ended)})`}:\n${output()}`,
  )
}

async function end(child: ChildProcess, exited: Promise<Exit>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  await exited
}

export function logLines(output: string): LogLine[] {
  return output.split('\n').flatMap((line) => {
    if (!line.startsWith('{')) return []
    try {
      return [logLine.parse(JSON.parse(line))]
    } catch {
      // The last line may be half written.
      return []
    }
  })
}

export interface CommandResult extends Exit {
  stdout: string
  stderr: string
}

export interface RunningCommand {
  pid: number
  stdout(): string
  stderr(): string
  stopReading(): void
  kill(signal: NodeJS.Signals): void
  exited: Promise<Exit>
}

/** Starts `kommo-sync …args` without waiting for its end. */
export function startCommand(args: readonly string[], env: Record<string, string> = {}): RunningCommand {
  const { child, ...started } = start(process.execPath, ['src/cli.ts', ...args], env)
  return { ...started, pid: child.pid ?? 0, kill: (signal) => void child.kill(signal) }
}

/** `kommo-sync …args` from its start to its end. @param input what it finds on standard input; else nothing is there */
export async function runCommand(
  args: readonly string[],
  env: Record<string, string> = {},
  input?: string,
): Promise<CommandResult> {
  const { stdout, stderr, exited } = start(process.execPath, ['src/cli.ts', ...args], env, input)
  const exit = await exited
  return { ...exit, stdout: stdout(), stderr: stderr() }
}

/** `kommo-sync …args` in a terminal of its own, made by `script` of util-linux. @returns what the terminal showed */
export async function runInTerminal(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number | null; shown: string; plain: string }> {
  const line = [process.execPath, 'src/cli.ts', ...args].map((arg) => `'${arg}'`).join(' ')
  const { output, exited } = start('script', ['-qec', line, '/dev/null'], { TERM: 'xterm', ...env })
  const { code } = await exited
  return { code, shown: output(), plain: stripVTControlCharacters(output()) }
}
