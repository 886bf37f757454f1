import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { outliveReader } from '../broken-pipe.ts'
import { loadConfig } from '../config.ts'
import { createLogger } from '../logger.ts'
import { openDatabase } from '../services/database.ts'
import { openService } from '../services/service.ts'
import { startSimulatedKommo } from '../simulated-kommo/simulated-kommo.ts'
import { report } from './report.ts'
import { scenario } from './scenario.ts'
import { whenSynced } from './when-synced.ts'

const USAGE = `npm run demo [-- --keep]

Runs the real service against a simulated Kommo and a fresh embedded Postgres, sends signed webhooks and prints the
tables that they became.

  --keep   stay up afterwards and print the addresses, until Ctrl-C
`

const { values } = parseArgs({
  options: { keep: { type: 'boolean', default: false }, help: { type: 'boolean' } },
})
outliveReader(process.stdout)
const say = (text: string) => process.stdout.write(text)

if (values.help) say(USAGE)
else await run(values.keep)

async function run(keep: boolean): Promise<void> {
  await using stack = new AsyncDisposableStack()
  const dataDir = await mkdtemp(join(tmpdir(), 'kommo-sync-demo-'))
  stack.defer(() => rm(dataDir, { recursive: true, force: true }))

  const kommo = await startSimulatedKommo()
  stack.defer(() => kommo.close())
  say(`A simulated Kommo answers at ${kommo.url}\n`)

  const config = loadConfig({
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_BASE_URL: kommo.url,
    DATA_DIR: dataDir,
    HOST: '127.0.0.1',
    DRAIN_DELAY: '0',
    PORT: '0',
    LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'warn',
  })
  const log = createLogger(config.logLevel)
  say('Starting Postgres and the service …\n')
  const { app } = stack.use(await openService(config, log))
  const address = await app.listen({ host: config.host, port: config.port })
  const { database } = stack.use(await openDatabase(config, log))

  const sent = await scenario(kommo, address)
  say('Webhooks are in; reading the conversations behind them …\n')
  await whenSynced(database)
  await report(database, kommo, sent, say)

  say(`\nLook further\n  psql '${database.url}'\n`)
  if (!keep) {
    say('  (this database goes away now; npm run demo -- --keep stays up)\n')
    return
  }
  say(`  service         ${address} (try /readyz and /metrics)\n`)
  say(`  simulated Kommo ${kommo.url}\n`)
  say('Ctrl-C ends it.\n')
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
}
