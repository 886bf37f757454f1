import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'pg'
import { expect, vi } from 'vitest'
import type { Conversation } from '../../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../../src/simulated-kommo/webhooks.ts'
import { type RunningService, startService, untilReady } from '../service.ts'
import { SOON } from '../soon.ts'
import { differences, expectedTables, storedTables } from '../truth.ts'
import { createWebhookSender, forEachAtOnce } from '../webhook-sender.ts'
import type { Delivery } from '../webhook-stream.ts'

/** A simulated Kommo, and processes of the service that keep their `DATA_DIR` through restarts. */
export interface Stage {
  kommo: SimulatedKommo
  /** Its secret may be set anew, as Kommo's support does. */
  channel: { id: string; secret: string }
  /** What every process is started with. */
  settings: Record<string, string>
  dataDir: string
  start(settings: Record<string, string>): Promise<RunningService>
  /** So many conversations that Kommo has and the service does not know yet. */
  addChats(count: number): Conversation[]
  /** Webhooks of conversations in turn, without an end; signed when they are taken. */
  webhooks(chats: readonly Conversation[]): Generator<SignedWebhook>
  /** Sends a service the newest few of each conversation, and sees that they are taken. */
  tell(serviceUrl: string, chats: readonly Conversation[]): Promise<void>
}

export async function setStage(stack: AsyncDisposableStack): Promise<Stage> {
  const channel = {
    id: 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354',
    secret: 'f2d7f8704eff95087ed45b23ba99c0b5aac8278e',
  }
  const kommo = await startSimulatedKommo({ channels: [channel] })
  stack.defer(() => kommo.close())
  const dataDir = await mkdtemp(join(tmpdir(), 'operations-'))
  stack.defer(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }))
  const settings = {
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: channel.id,
    KOMMO_CHANNEL_SECRET: channel.secret,
    KOMMO_REQUESTS_PER_SECOND: '500',
    DATA_DIR: dataDir,
  }
  let made = 0

  return {
    kommo,
    channel,
    settings,
    dataDir,
    async start(own) {
      return stack.use(await startService({ ...settings, ...own }))
    },
    addChats: (count) =>
      Array.from({ length: count }, () =>
        kommo.conversations.generate({ messages: 70, seed: `operations ${made++}` }),
      ),
    *webhooks(chats) {
      for (let turn = 0; ; turn += 1) {
        for (const chat of chats) {
          const told = outgoing(chat)
          const message = told[turn % told.length]
          if (message !== undefined) yield kommo.webhooks.message(chat, message)
        }
      }
    },
    async tell(serviceUrl, chats) {
      await using sender = createWebhookSender(serviceUrl)
      const told = chats.flatMap((chat) =>
        outgoing(chat)
          .slice(0, 3)
          .map((message) => kommo.webhooks.message(chat, message)),
      )
      await forEachAtOnce(told, 8, async (webhook) => {
        expect((await sender.send(webhook)).status).toBe(200)
      })
      await untilReady({ url: serviceUrl })
    },
  }
}

function outgoing(chat: Conversation) {
  return [...chat.messages()].filter(({ receiver }) => receiver !== null)
}

export function openPool(stack: AsyncDisposableStack, url: string): Pool {
  const pool = new Pool({ connectionString: url, max: 3 })
  pool.on('error', () => {})
  stack.defer(() => pool.end())
  return pool
}

/** Every conversation is stored as Kommo has it, with what the webhooks told that are in the tables. */
export async function expectTruth(pool: Pool, kommo: SimulatedKommo): Promise<void> {
  const { rows } = await pool.query<{ body: Buffer }>(
    "SELECT body FROM kommo.webhook_events WHERE kind = 'message' ORDER BY id",
  )
  const truth = expectedTables(
    kommo.conversations.all(),
    rows.map(({ body }) => body),
  )
  expect(differences(await storedTables(pool), truth)).toEqual([])
}

/** How each was refused: nothing, in all these tests. */
export function refusals(deliveries: readonly Delivery[]): string[] {
  return deliveries
    .filter(({ status }) => status !== 200)
    .map(({ status, sentAtMs, answeredAtMs }) => `${status} after ${Math.round(answeredAtMs - sentAtMs)} ms`)
}

/** Waits until the bodies of all that was sent are in the table. */
export async function untilStored(pool: Pool, deliveries: readonly Delivery[]): Promise<void> {
  await vi.waitFor(async () => {
    const { rows } = await pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events')
    const stored = new Set(rows.map(({ body }) => body.toString('latin1')))
    const missing = deliveries.filter(({ webhook }) => !stored.has(webhook.bytes.toString('latin1')))
    expect(missing.map(({ webhook }) => webhook.signature)).toEqual([])
  }, SOON)
}
