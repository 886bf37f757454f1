import { expect, test, vi } from 'vitest'
import { databaseUrlOf } from '../../helpers/data-dir.ts'
import { freePort } from '../../helpers/free-port.ts'
import { createOperator } from '../../helpers/operations/operator.ts'
import { startDumpableServer } from '../../helpers/operations/packaged-postgres.ts'
import { startProxy } from '../../helpers/operations/proxy.ts'
import { expectTruth, openPool, refusals, setStage, untilStored } from '../../helpers/operations/stage.ts'
import { orSkipped, versionOf } from '../../helpers/operations/tools.ts'
import { SOON } from '../../helpers/soon.ts'
import { superviseService } from '../../helpers/supervisor.ts'
import { untilSynced } from '../../helpers/synced.ts'
import { streamWebhooks } from '../../helpers/webhook-stream.ts'

const PSQL = versionOf('psql')

test.skipIf(PSQL === null)(
  `the embedded database is moved to another server by the documented commands, every row, and no webhook is refused; with ${orSkipped(['psql', PSQL])}`,
  async () => {
    await using stack = new AsyncDisposableStack()
    const stage = await setStage(stack)
    const server = stack.use(await startDumpableServer())
    const [newUrl, nextUrl] = [server.urlOf('kommo'), server.urlOf('kommo_next')]
    await openPool(stack, server.urlOf('postgres')).query('DROP DATABASE IF EXISTS kommo')
    const operator = stack.use(
      await createOperator({ ...stage.settings, SERVER_URL: server.urlOf('postgres'), NEXT_URL: nextUrl }),
    )
    const port = await freePort()
    const old = await stage.start({ PORT: String(port) })
    const chats = stage.addChats(12)
    await stage.tell(old.url, chats)
    const oldPool = openPool(stack, await databaseUrlOf(stage.dataDir))
    await untilSynced(oldPool)

    await operator.run('move-prepare')

    const next = stack.use(
      await superviseService({ ...stage.settings, DATABASE_URL: newUrl, ROLE: 'receiver' }),
    )
    await vi.waitFor(async () => expect((await fetch(`${next.url}/healthz`)).status).toBe(200), SOON)
    const proxy = stack.use(await startProxy([port, Number(new URL(next.url).port)]))
    await using stream = streamWebhooks(proxy.url, stage.webhooks(chats), 30)
    await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(20), SOON)
    expect(await old.stop()).toEqual({ code: 0, signal: null })

    const holding = await stage.start({ ROLE: 'worker' })
    await operator.run('move-copy')
    await holding.stop()
    // A dump of what arrived has the same lines: every row, column and counter.
    const arrived = await operator.run(
      'move-copy',
      {},
      { '"$EMBEDDED_URL" >kommo.sql': '"$NEXT_URL"', 'psql "$NEXT_URL"': ': psql' },
    )
    const sent = await operator.read('kommo.sql')
    expect(sortedLines(arrived) === sortedLines(sent), 'both dumps have the same lines').toBe(true)

    await operator.run('move-switch')
    await next.untilReady()
    const worker = await stage.start({ DATABASE_URL: newUrl, ROLE: 'worker' })
    const deliveries = await stream.stop()
    expect(refusals(deliveries)).toEqual([])

    const pool = openPool(stack, newUrl)
    await untilStored(pool, deliveries)
    await untilSynced(pool)
    await expectTruth(pool, stage.kommo)
    await Promise.all([next.stop(), worker.stop()])
  },
)

/** The server may keep rows in another order. */
function sortedLines(text: string): string {
  return text.split('\n').toSorted().join('\n')
}
