import { openSpool } from '../../src/inbox/spool.ts'
import { createLogger } from '../../src/logger.ts'
import { inboxWebhook } from './inbox.ts'

/** A process that keeps two webhooks on disk, says so, and lives until it is killed. */
const [, , folder = ''] = process.argv
const log = createLogger('silent')
const spool = await openSpool({ folder, log, segmentBytes: 10_000, mostBytes: 100_000 })
await spool.append([inboxWebhook(), inboxWebhook()])
// Open until the parent ends.
process.on('message', () => {})
process.send?.('kept')
