import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const startScript = z.object({ scripts: z.object({ start: z.string() }) })
const START_MS = 60_000

export interface Child extends AsyncDisposable {
  pid: number
  /** The first line of JSON that says where it listens. */
  url: string
  /** That whole line. */
  line: Record<string, unknown>
}

/** None outlives the bench, however that ends. */
const children = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})

/**
 * Runs a file of the project until it is disposed, and waits for a line of JSON with its address: `address` in a log of
 * the service, `url` from others.
 */
export async function startChild(
  file: string,
  { args = [], env = {} }: { args?: readonly string[]; env?: Record<string, string> } = {},
): Promise<Child> {
  const child = spawn(process.execPath, [...optionsOf(file), file, ...args], {
    cwd: ROOT,
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  const exited = once(child, 'exit').then(() => children.delete(child))
  let output = ''
  const listening = Promise.withResolvers<{ url: string; line: Record<string, unknown> }>()
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text))
  createInterface(child.stdout).on('line', (text) => {
    output = `${output}${text}\n`.slice(-10_000)
    const line = objectIn(text)
    const url = line['address'] ?? line['url']
    if (typeof url === 'string') listening.resolve({ url, line })
  })
  const timer = setTimeout(() => listening.reject(new Error(`${file} does not listen:\n${output}`)), START_MS)
  void exited.then(() => listening.reject(new Error(`${file} has ended:\n${output}`)))

  const end = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await exited
  }
  try {
    const { url, line } = await listening.promise
    return { pid: child.pid ?? 0, url, line, [Symbol.asyncDispose]: end }
  } catch (error) {
    await end()
    throw error
  } finally {
    clearTimeout(timer)
  }
}

/** As `npm start` runs it. `BENCH_PROFILE=DIRECTORY` writes a CPU and a heap profile of every child there. */
function optionsOf(file: string): string[] {
  const manifest = startScript.parse(JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8')))
  const options = manifest.scripts.start.split(' ').filter((part) => part.startsWith('--'))
  const folder = process.env['BENCH_PROFILE']
  const profiles = ['--cpu-prof', `--cpu-prof-dir=${folder}`, '--heap-prof', `--heap-prof-dir=${folder}`]
  return [...(file === 'src/server.ts' ? options : []), ...(folder === undefined ? [] : profiles)]
}

function objectIn(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}

/** Processor seconds that a process has used so far. */
export async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024
}
