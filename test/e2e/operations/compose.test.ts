import { execFileSync } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { SignedWebhook } from '../../../src/simulated-kommo/webhooks.ts'
import { freePort } from '../../helpers/free-port.ts'
import { createOperator } from '../../helpers/operations/operator.ts'
import { PROXY, startProxy } from '../../helpers/operations/proxy.ts'
import { type Stage, refusals, setStage } from '../../helpers/operations/stage.ts'
import { SOON } from '../../helpers/soon.ts'
import { ROOT } from '../../helpers/tool.ts'
import { type WebhookStream, streamWebhooks } from '../../helpers/webhook-stream.ts'

/** An image of the service that the docker engine has. To build it takes a while, so CI gives it. */
const IMAGE = process.env['KOMMO_SYNC_IMAGE'] ?? ''
const NEW = '5a44c5dff55f3c15a4cce8d7c4cc27e207c7e189'
const PER_SECOND = 30
const ENGINE = IMAGE === '' ? 'docker (skipped: KOMMO_SYNC_IMAGE names no image)' : `the image ${IMAGE}`

test.skipIf(IMAGE === '')(
  `with docker compose the documented commands rotate the channel's secret and restore a backup while webhooks come in: none is refused or lost; with ${ENGINE} behind ${PROXY}`,
  async () => {
    await using stack = new AsyncDisposableStack()
    const stage = await setStage(stack)
    const ports = [await freePort(), await freePort()] as const
    const settings = {
      ...engineSettings(),
      KOMMO_SYNC_IMAGE: IMAGE,
      PUBLISH: `127.0.0.1:${ports[0]}`,
      SECOND_PUBLISH: `127.0.0.1:${ports[1]}`,
    }
    const operator = stack.use(await createOperator(settings))
    const compose = (...args: string[]) =>
      execFileSync('docker', ['compose', ...args], {
        cwd: operator.folder,
        env: { PATH: process.env['PATH'], HOME: operator.folder, ...settings },
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    const psql = (database: string, sql: string) => {
      const options = [`--dbname=${database}`, '--username=kommo', '--quiet', '--no-align', '--tuples-only']
      return compose('exec', '-T', 'postgres', 'psql', ...options, `--command=${sql}`).trim()
    }
    const untilStored = (count: number) =>
      vi.waitFor(
        () => expect(psql('kommo', 'SELECT count(*) FROM kommo.webhook_events')).toBe(`${count}`),
        SOON,
      )

    copyFileSync(join(ROOT, 'docker-compose.yml'), join(operator.folder, 'docker-compose.yml'))
    const dotEnv = `KOMMO_CHANNEL_ID=${stage.channel.id}\nCOMPOSE_PROFILES=second-receiver\n`
    writeFileSync(join(operator.folder, '.env'), dotEnv)
    const secrets = join(operator.folder, 'secrets')
    const OLD = stage.channel.secret
    execFileSync('deploy/create-secrets', [secrets], { cwd: operator.folder, input: OLD, stdio: 'pipe' })
    const writeSecrets = (current: string, previous: string) => {
      writeFileSync(join(secrets, 'kommo_channel_secret'), `${current}\n`)
      writeFileSync(join(secrets, 'kommo_channel_secret_previous'), `${previous}\n`)
    }
    stack.defer(() => void compose('down', '--volumes'))
    compose('up', '--detach', '--wait')
    const proxy = stack.use(await startProxy(ports))

    const whileRotated = streamWebhooks(proxy.url, webhooks(stage, 'rotated'), PER_SECOND)
    await untilMore(whileRotated)
    writeSecrets(OLD, NEW)
    await operator.run('compose-restart')
    stage.channel.secret = NEW
    await untilMore(whileRotated)
    writeSecrets(NEW, OLD)
    await operator.run('compose-restart')
    await untilMore(whileRotated)
    const first = await whileRotated.stop()
    expect(refusals(first), proxy.output()).toEqual([])
    await untilStored(first.length)

    await operator.run('compose-backup')
    psql('postgres', 'DROP DATABASE kommo WITH (FORCE)')
    const whileRestored = streamWebhooks(proxy.url, webhooks(stage, 'restored'), PER_SECOND)
    await untilMore(whileRestored)
    await operator.run('compose-restore')
    await untilMore(whileRestored)
    const second = await whileRestored.stop()
    expect(refusals(second), proxy.output()).toEqual([])
    await untilStored(first.length + second.length)

    // Nothing is new, so it only waits for the workers that the restore has started.
    compose('up', '--detach', '--wait', '--scale', 'worker=2')
    const running = compose('ps', '--format', '{{.Service}}').trim().split('\n').toSorted()
    expect(running).toEqual(['postgres', 'receiver', 'second-receiver', 'worker', 'worker'])
    compose('stop')
    const exits = compose('ps', '--all', '--format', '{{.Service}} ends with {{.ExitCode}}')
      .trim()
      .split('\n')
    expect(exits.filter((line) => !line.endsWith(' 0'))).toEqual([])
  },
)

/** Where the engine is, for who has it elsewhere. */
function engineSettings(): Record<string, string> {
  const own = Object.entries(process.env).filter(([name]) => name.startsWith('DOCKER_'))
  return Object.fromEntries(own.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))
}

/** Each another one, of no conversation, so that Kommo is not asked for any. */
function* webhooks({ kommo }: Stage, name: string): Generator<SignedWebhook> {
  for (let count = 0; ; count += 1) yield kommo.webhooks.sign(kommo.scopeId, { test: `${name} ${count}` })
}

async function untilMore({ deliveries }: WebhookStream): Promise<void> {
  const before = deliveries.length
  await vi.waitFor(() => expect(deliveries.length).toBeGreaterThan(before + 2 * PER_SECOND), SOON)
}
