import { expect, test, vi } from 'vitest'
import { createTestDatabase } from '../../helpers/database.ts'
import { documentedSettings } from '../../helpers/operations/document.ts'
import { createOperator } from '../../helpers/operations/operator.ts'
import { PROXY } from '../../helpers/operations/proxy.ts'
import { expectTruth, refusals, setStage, untilStored } from '../../helpers/operations/stage.ts'
import { versionOf } from '../../helpers/operations/tools.ts'
import { SOON } from '../../helpers/soon.ts'
import { setUpTrio } from '../../helpers/operations/trio.ts'
import type { RunningService } from '../../helpers/service.ts'
import { untilSynced } from '../../helpers/synced.ts'
import { createWebhookSender } from '../../helpers/webhook-sender.ts'
import { streamWebhooks } from '../../helpers/webhook-stream.ts'

const NEW = '5a44c5dff55f3c15a4cce8d7c4cc27e207c7e189'
const PER_SECOND = 50
const PREVIOUS_SECRET = /^kommo_sync_webhook_oddities_total\{oddity="previous_secret"\} (\d+)/m

async function acceptedWithPrevious(receivers: readonly RunningService[]): Promise<number> {
  const counts = receivers.map(async ({ url }) => {
    const text = await (await fetch(`${url}/metrics`)).text()
    return Number(PREVIOUS_SECRET.exec(text)?.[1] ?? 0)
  })
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
}

test(`the channel's secret is rotated under load, by the documented steps, and no webhook is refused; behind ${PROXY}`, async () => {
  await using stack = new AsyncDisposableStack()
  const stage = await setStage(stack)
  const { kommo, channel } = stage
  const OLD = channel.secret
  const database = await createTestDatabase()
  stack.defer(() => database.drop())
  const env = { DATABASE_URL: database.url }
  const { proxy, ports, receivers, restart } = await setUpTrio(stack, stage)
  const operator = stack.use(await createOperator(env))

  const step = (name: string, secrets: Record<string, string>) => ({
    ...env,
    ...documentedSettings(name, secrets),
  })
  async function restartReceivers(settings: Record<string, string>): Promise<void> {
    for (const [index, name] of (['first', 'second'] as const).entries()) {
      await restart(name, settings)
      await operator.run('wait-ready', {}, { '127.0.0.1:3000': `127.0.0.1:${ports[index]}` })
    }
  }

  await Promise.all((['first', 'second', 'worker'] as const).map((name) => restart(name, env)))
  const chats = stage.addChats(10)
  await using stream = streamWebhooks(proxy.url, stage.webhooks(chats), PER_SECOND)
  await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(50), SOON)

  await restartReceivers(step('rotate-accept', { OLD, NEW }))
  channel.secret = NEW
  // Of these nothing is known yet, so their histories are asked for.
  chats.push(...stage.addChats(10))
  await vi.waitFor(() => expect(kommo.stats.recent().some(({ status }) => status === 403)).toBe(true), SOON)
  await vi.waitFor(async () => expect(await acceptedWithPrevious(receivers())).toBeGreaterThan(0), SOON)

  await restartReceivers(step('rotate-use', { NEW, OLD }))
  await restart('worker', step('rotate-use', { NEW, OLD }))
  const before = stream.deliveries.length
  await vi.waitFor(() => expect(stream.deliveries.length).toBeGreaterThan(before + 20), SOON)
  expect(await acceptedWithPrevious(receivers())).toBe(0)

  await restartReceivers(step('rotate-forget', { NEW }))
  const deliveries = await stream.stop()
  expect(refusals(deliveries), proxy.output()).toEqual([])
  // Or the worker waits for the end of the block that the old secret has earned.
  if (versionOf('psql') !== null) await operator.run('unblock')
  await untilStored(database.pool, deliveries)
  await untilSynced(database.pool, 200_000)
  await expectTruth(database.pool, kommo)

  await using sender = createWebhookSender(proxy.url)
  const [signedWithNew] = stage.webhooks(chats)
  channel.secret = OLD
  const [signedWithOld] = stage.webhooks(chats)
  if (signedWithNew === undefined || signedWithOld === undefined) throw new Error('there are no webhooks')
  expect((await sender.send(signedWithNew)).status).toBe(200)
  expect((await sender.send(signedWithOld)).status).toBe(401)
})
