import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { outliveReader } from './broken-pipe.ts'
import { backfill } from './commands/backfill.ts'
import { doctor } from './commands/doctor.ts'
import { grantReader } from './commands/grant-reader.ts'
import { migrateDatabase } from './commands/migrate.ts'
import type { Output } from './commands/output.ts'
import type { TextStream } from './commands/progress.ts'
import { replay } from './commands/replay.ts'
import { revokeReader } from './commands/revoke-reader.ts'
import { serve } from './commands/serve.ts'
import { status } from './commands/status.ts'
import { verify } from './commands/verify.ts'
import { type Config, loadConfig } from './config.ts'
import { WEBHOOK_KINDS, type WebhookKind } from './domain/webhook.ts'
import { AppError, ConfigError, UsageError } from './errors.ts'
import { createLogger } from './logger.ts'
import { VERSION } from './version.ts'

/** What a command line needs of its process. */
export interface Surroundings {
  env: NodeJS.ProcessEnv
  stdin: NodeJS.ReadableStream
  stdout: TextStream
  stderr: TextStream
  exitCode?: number | string | null | undefined
}

/** Runs one command and leaves its exit code: 0 done, 1 failed, 2 wrong usage or configuration. */
export async function runCommandLine(args: readonly string[], surroundings: Surroundings): Promise<void> {
  outliveReader(surroundings.stdout)
  outliveReader(surroundings.stderr)
  try {
    await program(surroundings).parseAsync(args, { from: 'user' })
  } catch (error) {
    surroundings.exitCode = exitCodeOf(error)
    if (!(error instanceof CommanderError)) surroundings.stderr.write(`kommo-sync: ${describe(error)}\n`)
  }
}

function program(surroundings: Surroundings): Command {
  const { env, stdin, stdout, stderr } = surroundings
  const json = new Option('--json', 'print facts for a script')
  const command = new Command('kommo-sync')
    .description("Keeps a company's Kommo chats in its own Postgres, whole and current.")
    .version(VERSION)
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
    .option('--again', 'also by a migration that has failed: its cause is removed')
    .addOption(json)
    .action(async (options: { again?: true; json?: true }) => {
      const config = loadConfig(env, { channels: 'optional' })
      conclude(await migrateDatabase(config, options.again ?? false, outputFor(config, options)))
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
    .command('replay')
    .description('work stored webhooks into the tables again; revive dead conversations')
    .option('--id <id...>', 'webhooks by their id in kommo.webhook_events', parseEventIds)
    .option('--since <time>', 'webhooks that arrived at this ISO time or later', parseTime)
    .option('--until <time>', 'webhooks that arrived before this ISO time', parseTime)
    .addOption(new Option('--kind <kind...>', 'webhooks of these kinds').choices(WEBHOOK_KINDS))
    .option('--failed', 'only webhooks that have an error')
    .option('--dead', 'conversations that were given up')
    .option('--dry-run', 'only say how many')
    .addOption(json)
    .action(async (options: ReplayFlags) => {
      const config = loadConfig(env)
      const what = {
        ids: options.id ?? [],
        since: options.since ?? null,
        until: options.until ?? null,
        kinds: options.kind ?? [],
        failedOnly: options.failed ?? false,
        dead: options.dead ?? false,
        dryRun: options.dryRun ?? false,
      }
      conclude(await replay(config, what, { ...outputFor(config, options), progress: stderr }))
    })

  command
    .command('verify')
    .description('compare conversations with Kommo, message by message, and change nothing')
    .argument('[id...]', "conversation ids, Kommo's own (UUIDs)")
    .option('--all', 'every conversation that is known')
    .option('--sample <n>', 'with --all: so many of them, drawn at random', parseCount)
    .addOption(json)
    .action(async (ids: string[], options: { all?: true; sample?: number; json?: true }) => {
      const config = loadConfig(env)
      const selection = { ids, all: options.all ?? false, sample: options.sample ?? null }
      conclude(await verify(config, selection, { ...outputFor(config, options), progress: stderr }))
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

  command
    .command('grant-reader')
    .description('make or update a database role that may read schema kommo and do nothing else')
    .argument('<name>', 'name of the role')
    .option('--password-file <path>', 'file with the password; without one an existing role keeps its own')
    .option('--password-stdin', 'read the password from standard input')
    .addOption(json)
    .addHelpText('after', GRANT_READER_HELP)
    .action(async (name: string, options: { passwordFile?: string; passwordStdin?: true; json?: true }) => {
      const config = loadConfig(env, { channels: 'optional' })
      const source = { file: options.passwordFile ?? null, input: options.passwordStdin ? stdin : null }
      conclude(await grantReader(config, name, source, outputFor(config, options)))
    })

  command
    .command('revoke-reader')
    .description('take the rights of a reader away, at once, and remove its role')
    .argument('<name>', 'name of the role')
    .addOption(json)
    .action(async (name: string, options: { json?: true }) => {
      const config = loadConfig(env, { channels: 'optional' })
      conclude(await revokeReader(config, name, outputFor(config, options)))
    })

  return command
}

const GRANT_READER_HELP = `
The role may select from every table and view of schema kommo, also from those of later versions, and that includes the
inbox: kommo.webhook_events holds the bodies as Kommo sent them. It may not write, create or grant. Every role may make
temporary tables by default; that right is taken from PUBLIC in this database, and given to each role that exists.`

interface ReplayFlags {
  id?: bigint[]
  since?: Date
  until?: Date
  kind?: WebhookKind[]
  failed?: true
  dead?: true
  dryRun?: true
  json?: true
}

/** Called for each id of a list, with what the ones before made. */
function parseEventIds(text: string, before: bigint[] = []): bigint[] {
  if (!/^\d{1,18}$/.test(text)) throw new InvalidArgumentError('It must be a number.')
  return [...before, BigInt(text)]
}

/** Without a zone it would mean another moment on each machine. */
const ISO_TIME = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/

function parseTime(text: string): Date {
  const time = new Date(ISO_TIME.test(text) ? text : Number.NaN)
  if (!Number.isNaN(time.getTime())) return time
  throw new InvalidArgumentError('It must be a time like 2026-11-22T14:00:00Z, or a day (UTC).')
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.')
  return Number(text)
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
