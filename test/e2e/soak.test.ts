import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'pg'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'
import { databaseUrlOf, isAlive, postmasterOf } from '../helpers/data-dir.ts'
import { watchForHoles } from '../helpers/hole-watcher.ts'
import { seededRandom } from '../helpers/seeded-random.ts'
import { type RunningCommand, startCommand } from '../helpers/service.ts'
import { superviseService } from '../helpers/supervisor.ts'
import { SOAK, showFigures } from '../helpers/soak.ts'
import { untilSynced } from '../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../helpers/truth.ts'
import { type WebhookSender, createWebhookSender } from '../helpers/webhook-sender.ts'
import { streamWebhooks } from '../helpers/webhook-stream.ts'

const KILLS = SOAK > 1 ? SOAK : SOAK === 1 ? 200 : 6
const SEED = Number(process.env['SEED'] ?? 20_261_122)
const LIVE = 20
/** Walked for the first time while processes die: a few are always under way. */
const STILL = Math.ceil(KILLS * 0.7)
const WEBHOOKS_PER_SECOND = 50
/** Of a still conversation's messages, so many at the most are told while processes die; one more at the end. */
const MOST_TOLD = 50

let kommo: SimulatedKommo
let folder: string
let dataDir: string
let pool: Pool

beforeEach(async () => {
  kommo = await startSimulatedKommo()
  folder = await mkdtemp(join(tmpdir(), 'kommo-sync-soak-'))
  dataDir = join(folder, 'data')
})

afterEach(async () => {
  await pool?.end()
  // Whoever leaves the folder last stops its server, also one that a killed service has left.
  const server = await startEmbeddedPostgres({ dataDir, log: { info() {}, warn() {}, error() {} } })
  await server.stop()
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  await kommo?.close()
})

/** Managers and clients write, here and there, for as long as somebody takes the webhooks. */
function* conversationsGoingOn(
  live: readonly Conversation[],
  random: () => number,
): Generator<SignedWebhook> {
  for (let n = 0; ; n += 1) {
    const conversation = live[Math.floor(random() * live.length)]
    if (conversation === undefined) throw new Error('no conversation')
    if (random() < 0.3) conversation.addMessage({ text: `from a client ${n}` })
    const message = conversation.addMessage({ from: 'manager', text: `from a manager ${n}` })
    yield kommo.webhooks.message(conversation, message)
  }
}

/** Of the newest messages that the company wrote, number `nth`: each body is sent once. */
function webhookOf(conversation: Conversation, nth: number): SignedWebhook {
  let left = nth
  for (const message of conversation.messages()) {
    if (message.receiver !== null && left-- === 0) return kommo.webhooks.message(conversation, message)
  }
  throw new Error(`the company wrote too little in ${conversation.id}`)
}

/** Claims of processes that are gone run out within 15 s; that would be ten kills without a walk. */
async function endClaimsOfTheDead(): Promise<void> {
  await pool
    ?.query('UPDATE kommo.conversations SET run_after = now() WHERE claim_id IS NOT NULL')
    .catch(() => {})
}

/** Kommo sends once, so an answer other than 200 is nobody's fault but ours to avoid: the service is ready here. */
async function tell(sender: WebhookSender, webhook: SignedWebhook, acknowledged: Set<string>): Promise<void> {
  expect((await sender.send(webhook)).status).toBe(200)
  acknowledged.add(hex(webhook))
}

test(
  `${KILLS} times kill -9 of the service or of Postgres: what was acknowledged is there once, histories have no hole`,
  { timeout: 120_000 + KILLS * 10_000 },
  async () => {
    const random = seededRandom(SEED)
    const live = Array.from({ length: LIVE }, (_, n) =>
      kommo.conversations.generate({ messages: 20 + 10 * n, seed: `soak live ${n}` }),
    )
    const still = Array.from({ length: STILL }, (_, n) =>
      kommo.conversations.generate({ messages: 400 + Math.floor(random() * 1200), seed: `soak still ${n}` }),
    )
    kommo.faults.setLatency(15)
    const env = {
      DATA_DIR: dataDir,
      KOMMO_BASE_URL: kommo.url,
      KOMMO_CHANNEL_ID: kommo.channelId,
      KOMMO_CHANNEL_SECRET: kommo.channelSecret,
      KOMMO_REQUESTS_PER_SECOND: '300',
      LOG_LEVEL: 'warn',
    }
    await using service = await superviseService(env, { onKilled: endClaimsOfTheDead })
    await service.untilReady()
    pool = new Pool({ connectionString: await databaseUrlOf(dataDir), max: 3 })
    pool.on('error', () => {})
    await using watcher = watchForHoles(
      pool,
      new Map(kommo.conversations.all().map((each) => [each.id, each])),
    )
    await using sender = createWebhookSender(service.url)
    const acknowledged = new Set<string>()
    await using stream = streamWebhooks(service.url, conversationsGoingOn(live, random), WEBHOOKS_PER_SECOND)
    const answered = () => stream.deliveries.filter(({ status }) => status === 200).length

    let backfill: RunningCommand | null = null
    const killed = { service: 0, postgres: 0, backfill: 0 }
    for (let kill = 0; kill < KILLS; kill += 1) {
      // One more history to walk: every other by a webhook, every other by the command line.
      const next = kommo.conversations.get(still[Math.floor((kill * STILL) / KILLS)]?.id ?? '')
      if (next !== undefined && kill % 2 === 0) {
        const webhook = webhookOf(next, kill % MOST_TOLD)
        const { status } = await sender.send(webhook).catch(() => ({ status: 0 }))
        if (status === 200) acknowledged.add(hex(webhook))
      } else if (next !== undefined && backfill === null) {
        const command = startCommand(['backfill', '--scope', next.scopeId, next.id], env)
        backfill = command
        void command.exited.then(() => (backfill = null))
      }
      // Mostly in full work; sometimes as early as in the start.
      if (random() < 0.8) {
        const wanted = answered() + 1 + Math.floor(random() * 40)
        await vi.waitFor(() => expect(answered()).toBeGreaterThan(wanted), { timeout: 60_000, interval: 5 })
      } else await sleep(random() * 600)

      // However few they are, one is of Postgres alone.
      const victim = kill === 1 ? 0 : random()
      if (victim < 0.35) {
        const server = await postmasterOf(dataDir).catch(() => 0)
        if (isAlive(server)) process.kill(server, 'SIGKILL')
        killed.postgres += 1
      }
      if (victim > 0.25) {
        await service.kill()
        killed.service += 1
      }
      if (victim < 0.35) void endClaimsOfTheDead()
      if (backfill !== null && random() < 0.3) {
        backfill.kill('SIGKILL')
        killed.backfill += 1
      }
    }
    backfill?.kill('SIGKILL')
    await backfill?.exited
    const deliveries = await stream.stop()
    for (const { status, webhook } of deliveries) {
      if (status === 200) acknowledged.add(hex(webhook))
    }

    await service.untilReady()
    // A conversation is read because somebody speaks in it: one word that is heard brings everything before it.
    for (const conversation of live) {
      const message = conversation.addMessage({ from: 'manager', text: 'the last word' })
      await tell(sender, kommo.webhooks.message(conversation, message), acknowledged)
    }
    for (const conversation of still) await tell(sender, webhookOf(conversation, MOST_TOLD), acknowledged)
    kommo.faults.setLatency(0)
    await vi.waitFor(
      async () => {
        const kept = new Set(await bodies())
        expect([...acknowledged].filter((body) => !kept.has(body))).toEqual([])
      },
      { timeout: 60_000, interval: 250 },
    )
    await untilSynced(pool, 120_000)
    const seen = await watcher.stop()

    const kept = await bodies()
    const statuses = Map.groupBy(deliveries, ({ status }) => status)
    const figures = {
      killed,
      sent: deliveries.length,
      answered: Object.fromEntries([...statuses].map(([status, those]) => [status || 'none', those.length])),
      acknowledged: acknowledged.size,
      keptWithoutAnswer: kept.filter((body) => !acknowledged.has(body)).length,
      messages: kommo.conversations.all().reduce((sum, { size }) => sum + size, 0),
      historyRequests: kommo.stats.snapshot().historyRequests,
      ...seen,
    }
    showFigures(figures)

    const stored = await storedTables(pool)
    const told = kept.map((body) => Buffer.from(body, 'hex'))
    expect(differences(stored, expectedTables(kommo.conversations.all(), told))).toEqual([])
    expect(doubles(kept)).toEqual([])
    expect(seen.holes).toEqual([])
    expect(seen.sawOpen).toBeGreaterThan(0)
    expect(seen.sawComplete).toBeGreaterThan(0)
    expect(service.unexpectedEnds()).toEqual([])
    expect([...statuses.keys()].filter((status) => ![200, 503, 0].includes(status))).toEqual([])
    await service.stop()
  },
)

async function bodies(): Promise<string[]> {
  const { rows } = await pool.query<{ body: Buffer }>('SELECT body FROM kommo.webhook_events ORDER BY id')
  return rows.map(({ body }) => body.toString('hex'))
}

function doubles(list: readonly string[]): string[] {
  return [...Map.groupBy(list, (item) => item)].flatMap(([item, those]) => (those.length > 1 ? [item] : []))
}

function hex({ bytes }: SignedWebhook): string {
  return bytes.toString('hex')
}
