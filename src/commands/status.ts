import type { Config } from '../config.ts'
import { openDatabase } from '../services.ts'
import { pendingMigrations } from '../store/migrate.ts'
import { type SyncStatus, readStatus } from '../store/status.ts'
import { type Output, printJson, table } from './output.ts'

/** Shows what is stored, what is behind, and what fails and why. */
export async function status(config: Config, output: Output): Promise<boolean> {
  await using opened = await openDatabase(config, output.log)
  const pending = await pendingMigrations(opened.database.pool)
  if (pending.length > 0) {
    if (output.json) printJson(output, { pendingMigrations: pending })
    else output.out.write(`The tables are not up to date; run kommo-sync migrate (${pending.join(', ')}).\n`)
    return false
  }
  const facts = await readStatus(opened.database.prisma)
  if (output.json) printJson(output, facts)
  else output.out.write(layOut(facts))
  return true
}

function layOut({ conversations, messages, webhooks, failing, channels }: SyncStatus): string {
  const sections = [
    'Conversations\n',
    table([
      ['stored', conversations.total],
      ['history complete', conversations.complete],
      ['behind', conversations.behind],
      ['failing', conversations.failing],
      ['dead', conversations.dead],
    ]),
    '\nMessages\n',
    table([
      ['stored', messages.total],
      ['with media', messages.withMedia],
    ]),
    '\nWebhooks\n',
    webhooks.length === 0
      ? '  none yet\n'
      : table([
          ['kind', 'received', 'waiting', 'with an error'],
          ...webhooks.map(({ kind, total, pending, failed }) => [kind, total, pending, failed]),
        ]),
  ]
  if (channels.length > 0) {
    sections.push(
      '\nChannels that may not be asked now\n',
      table(channels.map((c) => [c.channelId, `until ${c.blockedUntil.toISOString()}`, c.reason ?? ''])),
    )
  }
  if (failing.length > 0) {
    sections.push(
      '\nFailing or dead, the latest first\n',
      table(failing.map((c) => [c.id, c.deadAt ? 'dead' : `attempt ${c.attempts}`, c.lastError ?? ''])),
    )
  }
  return sections.join('')
}
