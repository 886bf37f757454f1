import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { freshSeed } from '../helpers/fresh-seed.ts'
import { type OwnPostgres, startOwnPostgres } from '../helpers/own-postgres.ts'
import { readSpool } from '../helpers/kept-bodies.ts'
import { type RunningService, startService, untilReady } from '../helpers/service.ts'
import { smallDisks } from '../helpers/small-disk.ts'
import { SOON } from '../helpers/soon.ts'
import { createWebhookSender } from '../helpers/webhook-sender.ts'

let kommo: SimulatedKommo
let postgres: OwnPostgres
/** A new one for each try: nobody's leavings are in its spool. */
let dataDir: string

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  postgres = await startOwnPostgres()
})
afterAll(async () => {
  await kommo?.close()
  await postgres?.[Symbol.asyncDispose]()
})
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'disk-full-'))
})
afterEach(() => rm(dataDir, { recursive: true, force: true }))

function* webhooks(seed: string): Generator<SignedWebhook> {
  for (let n = 0; ; n += 1) {
    const conversation = kommo.conversations.generate({ messages: 60, seed: freshSeed(`${seed} ${n}`) })
    for (const message of conversation.messages()) {
      if (message.receiver !== null) yield kommo.webhooks.message(conversation, message)
    }
  }
}

async function metric({ url }: RunningService, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')[1],
  )
}

describe.each(smallDisks)('while the database is away and $name has no room ($code)', (disk) => {
  test.skipIf(!disk.isAvailable)(
    'webhooks are answered 503, what was acknowledged is whole, and all goes on when there is room',
    async () => {
      await postgres.start()
      const env = {
        DATABASE_URL: postgres.url,
        DATA_DIR: dataDir,
        KOMMO_BASE_URL: kommo.url,
        KOMMO_CHANNEL_ID: kommo.channelId,
        KOMMO_CHANNEL_SECRET: kommo.channelSecret,
        ROLE: 'receiver',
      }
      await using service = await startService(env, { within: disk.within })
      await using sender = createWebhookSender(service.url)
      const folder = disk.pathOf(service, dataDir)
      const stream = webhooks(disk.code)
      const sent: string[] = []
      const acknowledged: string[] = []
      const sendNext = async () => {
        const next = stream.next()
        if (next.done === true) throw new Error('no webhook')
        const body = next.value.bytes.toString('hex')
        sent.push(body)
        const { status } = await sender.send(next.value)
        if (status === 200) acknowledged.push(body)
        return status
      }
      await postgres.stop()

      for (let n = 0; n < 3; n += 1) expect(await sendNext()).toBe(200)
      await disk.squeeze(service, dataDir)
      const answers = []
      // Some fit, and then one does in part.
      while (answers.at(-1) !== 503 && answers.length < 200) answers.push(await sendNext())
      expect(answers.at(-1)).toBe(503)
      expect(await readSpool(folder)).toEqual({ bodies: acknowledged, torn: 0, corrupt: 0 })

      await disk.fill(service, dataDir)
      const refused = await Promise.all(Array.from({ length: 30 }, sendNext))
      expect(new Set(refused)).toEqual(new Set([503]))
      expect(await readSpool(folder)).toEqual({ bodies: acknowledged, torn: 0, corrupt: 0 })
      expect((await fetch(`${service.url}/healthz`)).status).toBe(200)
      expect((await fetch(`${service.url}/readyz`)).status).toBe(503)
      expect(await metric(service, 'kommo_sync_webhooks_rejected_total{reason="not_kept"}')).toBe(31)
      expect(service.output()).toContain(disk.code)

      await disk.free(service, dataDir)
      for (let n = 0; n < 20; n += 1) expect(await sendNext()).toBe(200)
      expect(await readSpool(folder)).toEqual({ bodies: acknowledged, torn: 0, corrupt: 0 })

      await postgres.start()
      await untilReady(service)
      expect(await sendNext()).toBe(200)
      await vi.waitFor(async () => {
        const { rows } = await postgres.pool.query<{ body: Buffer }>(
          'SELECT body FROM kommo.webhook_events ORDER BY id',
        )
        const stored = rows.map(({ body }) => body.toString('hex')).filter((body) => sent.includes(body))
        expect(stored).toEqual(acknowledged)
        expect((await readSpool(folder)).bodies).toEqual([])
      }, SOON)
      expect(await service.stop()).toEqual({ code: 0, signal: null })
    },
  )
})
