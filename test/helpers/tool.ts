import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { TestContext } from 'vitest'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const run = promisify(execFile)

export interface ToolRun {
  /** Written to its standard input. */
  input?: string
  /** In place of this process's own environment, but for PATH. */
  env?: Record<string, string>
}

export interface Tool {
  /**
   * Runs it in the project's folder; skips the test where it is not installed.
   * @returns what it wrote to standard output
   * @throws with what it wrote, when it ends with another code than 0
   */
  (context: Pick<TestContext, 'skip'>, args: readonly string[], run?: ToolRun): Promise<string>
}

/**
 * A program that npm does not bring. `.ci/run` installs it where it may; elsewhere what needs it is skipped, and says so.
 * @param debianPackage the package that has it
 */
export async function findTool(command: string, debianPackage = command): Promise<Tool> {
  const isInstalled = await run('which', [command]).then(
    () => true,
    () => false,
  )
  return async ({ skip }, args, { input = '', env = {} } = {}) => {
    skip(!isInstalled, `${command} is not installed (Debian: apt-get install ${debianPackage})`)
    const running = run(command, args, {
      cwd: ROOT,
      env: { PATH: process.env['PATH'], ...env },
      maxBuffer: 16 * 1024 * 1024,
    })
    running.child.stdin?.end(input)
    return (await running).stdout
  }
}
