import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { type Inbox, createInbox } from '../inbox/inbox.ts'
import { openSpool } from '../inbox/spool.ts'
import type { Metrics } from '../metrics.ts'
import { createDatabase } from '../store/connection/database.ts'
import { recordWebhooks } from '../store/webhook-events.ts'

const MIB = 1024 * 1024
/** A gigabyte is about a million webhooks: hours. A segment is read whole, some 20 ms in which nobody is answered. */
const SPOOL = { segmentBytes: 4 * MIB, mostBytes: 1024 * MIB }
/** One commits; the other is warm for when the first is lost. */
const INBOX_CONNECTIONS = 2
/** Before the inbox itself stops waiting: a commit that nobody waits for any more should not happen late. */
const INBOX_TIMEOUT_MS = 600
const DRAIN_TIMEOUT_MS = 3000

/** The inbox has connections of its own, so that a busy worker never makes a webhook wait. */
export async function openInbox(
  config: Config,
  databaseUrl: string,
  parentLog: Logger,
  metrics: Metrics,
  away: boolean,
): Promise<Inbox & AsyncDisposable> {
  await using stack = new AsyncDisposableStack()
  const log = parentLog.child({ component: 'inbox' })
  const prompt = createDatabase(databaseUrl, {
    log,
    maxConnections: INBOX_CONNECTIONS,
    timeoutMs: INBOX_TIMEOUT_MS,
  })
  stack.defer(() => prompt.close())
  const patient = createDatabase(databaseUrl, { log, maxConnections: 1, timeoutMs: DRAIN_TIMEOUT_MS })
  stack.defer(() => patient.close())
  const spool = await openSpool({ ...SPOOL, folder: join(config.dataDir, 'spool'), log })
  stack.defer(() => spool.close())
  const inbox = createInbox({
    record: (webhooks) => recordWebhooks(prompt.raw, webhooks),
    recordPatiently: (webhooks) => recordWebhooks(patient.raw, webhooks),
    spool,
    metrics,
    log,
    away,
  })
  stack.defer(() => inbox.close())
  const opened = stack.move()
  return Object.assign(inbox, { [Symbol.asyncDispose]: () => opened.disposeAsync() })
}
