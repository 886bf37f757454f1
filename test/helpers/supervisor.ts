import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { vi } from 'vitest'
import { CHILD_ENVIRONMENT } from './child-environment.ts'
import { freePort } from './free-port.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const MOST_OUTPUT = 200_000

export interface Supervisor extends AsyncDisposable {
  /** The same through all restarts. */
  url: string
  /** `kill -9` of the process that runs now, ready or not; the next one starts at once. */
  kill(): Promise<void>
  untilReady(timeoutMs?: number): Promise<void>
  /** The end of what all of them have written. */
  output(): string
  /** Ends that nobody here asked for. */
  unexpectedEnds(): string[]
  /** SIGTERM, and no other starts. */
  stop(): Promise<void>
}

export interface SupervisorOptions {
  /** Between the end of a process and the start of the next: nobody holds a claim rightly. */
  onKilled?: () => Promise<void>
}

/** Runs the service as a process supervisor does: whenever it ends, it is started again on the same port. */
export async function superviseService(
  env: Record<string, string>,
  { onKilled = async () => {} }: SupervisorOptions = {},
): Promise<Supervisor> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const unexpected: string[] = []
  let output = ''
  let killed = false
  let stopped = false
  let child = start()
  let restarted = Promise.withResolvers<void>()

  function start(): ChildProcess {
    const next = spawn(process.execPath, ['src/server.ts'], {
      cwd: ROOT,
      env: { ...CHILD_ENVIRONMENT, HOST: '127.0.0.1', PORT: String(port), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [next.stdout, next.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (output = (output + text).slice(-MOST_OUTPUT)))
    }
    next.once('close', () => void startAgain(next))
    return next
  }

  async function startAgain({ exitCode, signalCode }: ChildProcess): Promise<void> {
    if (stopped) return
    if (!killed) unexpected.push(`code ${exitCode}, signal ${signalCode}:\n${output.slice(-2000)}`)
    killed = false
    await onKilled()
    child = start()
    restarted.resolve()
    restarted = Promise.withResolvers<void>()
  }

  const leave = () => child.kill('SIGKILL')
  process.once('exit', leave)

  async function end(signal: NodeJS.Signals): Promise<void> {
    stopped = true
    process.off('exit', leave)
    if (child.exitCode !== null || child.signalCode !== null) return
    const closed = once(child, 'close')
    child.kill(signal)
    await closed
  }

  return {
    url,
    output: () => output,
    unexpectedEnds: () => unexpected,
    async kill() {
      const next = restarted.promise
      killed = true
      child.kill('SIGKILL')
      await next
    },
    async untilReady(timeoutMs = 60_000) {
      await vi.waitFor(
        async () => {
          const { status } = await fetch(`${url}/readyz`)
          if (status !== 200) throw new Error(`/readyz answers ${status}\n${output.slice(-2000)}`)
        },
        { timeout: timeoutMs, interval: 20 },
      )
    },
    stop: () => end('SIGTERM'),
    [Symbol.asyncDispose]: () => end('SIGKILL'),
  }
}
