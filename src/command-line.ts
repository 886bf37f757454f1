import { Command, CommanderError, Option } from 'commander'
import { backfill } from './commands/backfill.ts'
import { doctor } from './commands/doctor.ts'
import { migrateDatabase } from './commands/migrate.ts'
import { serve } from './commands/serve.ts'
import { status } from './commands/status.ts'
import type { Output } from './commands/output.ts'
import { type Config, loadConfig } from './config.ts'
import { AppError, ConfigError, UsageError } from './errors.ts'
import { createLogger } from './logger.ts'

/** What a command line needs of its process. */
export interface Surroundings {
  env: NodeJS.ProcessEnv
  stdout: NodeJS.WriteStream
  stderr: NodeJS.WriteStream
  exitCode?: number | string | null | undefined
}

/** Runs one command and leaves its exit code: 0 done, 1 failed, 2 wrong usage or configuration. */
export async function runCommandLine(args: readonly string[], surroundings: Surroundings): Promise<void> {
  try {
    await program(surroundings).parseAsync(args, { from: 'user' })
  } catch (error) {
    surroundings.exitCode = exitCodeOf(error)
    if (!(error instanceof CommanderError)) surroundings.stderr.write(`kommo-sync: ${describe(error)}\n`)
  }
}

function program(surroundings: Surroundings): Command {
  const { env, stdout, stderr } = surroundings
  const json = new Option('--json', 'print facts for a script')
  const command = new Command('kommo-sync')
    .description("Keeps a company's Kommo chats in its own Postgres, whole and current.")
    .exitOverride()
    .configureOutput({ writeOut: (text) => stdout.write(text), writeErr: (text) => stderr.write(text) })
    .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 wrong usage or configuration.')
  // What a person asked for is on stdout; the log of how it went is not.
  const outputFor = (config: Config, options: { json?: true }): Output => ({
    log: createLogger(env['LOG_LEVEL']?.trim() ? config.logLevel : 'warn', stderr),
    out: stdout,
    json: options.json ?? false,
  })
  /** Commands that end by themselves say with a boolean whether all is well. */
  const conclude = (isWell: boolean) => {
    surroundings.exitCode = isWell ? 0 : 1
  }

  command
    .command('serve')
    .description('receive webhooks and keep conversations synced, until a signal')
    .action(async () => serve(loadConfig(env)))

  command
    .command('migrate')
    .description('bring the tables up to date')
    .addOption(json)
    .action(async (options: { json?: true }) => {
      const config = loadConfig(env, { channels: 'optional' })
      conclude(await migrateDatabase(config, outputFor(config, options)))
    })

  command
    .command('backfill')
    .description('read whole histories again, from the newest message to the oldest')
    .argument('[id...]', "conversation ids, Kommo's own (UUIDs)")
    .option('--all', 'every conversation that is known')
    .option('--scope <scope_id>', 'scope of conversations that are not known yet: CHANNEL_ACCOUNT')
    .addOption(json)
    .action(async (ids: string[], options: { all?: true; scope?: string; json?: true }) => {
      const config = loadConfig(env)
      const selection = { ids, all: options.all ?? false, scopeId: options.scope ?? null }
      conclude(await backfill(config, selection, { ...outputFor(config, options), progress: stderr }))
    })

  command
    .command('status')
    .description('what is stored, what is behind, what fails and why')
    .addOption(json)
    .action(async (options: { json?: true }) => {
      const config = loadConfig(env, { channels: 'optional' })
      conclude(await status(config, outputFor(config, options)))
    })

  command
    .command('doctor')
    .description('check database, migrations, clock, and the secret of each channel')
    .option('--scope <scope_id>', 'a scope to try the secret with, where no conversation is known yet')
    .addOption(json)
    .action(async (options: { scope?: string; json?: true }) => {
      const config = loadConfig(env)
      conclude(await doctor(config, options.scope ?? null, outputFor(config, options)))
    })

  return command
}

function exitCodeOf(error: unknown): number {
  // Commander throws for --help too, with exit code 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  return error instanceof ConfigError || error instanceof UsageError ? 2 : 1
}

function describe(error: unknown): string {
  if (error instanceof AppError) return error.message
  return error instanceof Error ? `${error.name}: ${error.message}` : 'unknown error'
}
