import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseEnv, promisify } from 'node:util'
import { expect, test, type TestContext } from 'vitest'
import { SECRET_VARIABLES, VARIABLES } from '../../../src/config.ts'
import { startSimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

/** What only the compose file reads: image, published address, where the secrets lie. */
const OWN_VARIABLES = new Set(['KOMMO_SYNC_IMAGE', 'PUBLISH', 'SECRETS_DIR', 'PREVIOUS_SECRET'])
const SERVICE_VARIABLES = new Set([...VARIABLES, ...SECRET_VARIABLES.map((name) => `${name}_FILE`)])

const text = readFileSync(`${ROOT}/docker-compose.yml`, 'utf8')
const demo = parseEnv(readFileSync(`${ROOT}/deploy/demo/demo.env`, 'utf8'))

function namesIn(pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, name = '']) => name)
}

const run = promisify(execFile)
const installed = await run('docker-compose', ['version']).then(
  () => true,
  () => false,
)

/** Debian's `docker-compose`: it checks the file against the Compose specification, and needs no docker. */
function compose({ skip }: TestContext, args: string[], env: NodeJS.ProcessEnv) {
  skip(!installed, 'docker-compose is not installed')
  return run('docker-compose', args, { cwd: ROOT, env: { PATH: process.env['PATH'], ...env } })
}

test('every variable that a container gets is one that the service reads', () => {
  const given = namesIn(/^ +([A-Z][A-Z_]+): /gm).filter((name) => !name.startsWith('POSTGRES_'))
  expect(given).toContain('KOMMO_CHANNEL_ID')
  expect(given.filter((name) => !SERVICE_VARIABLES.has(name))).toEqual([])
})

test('every variable that the compose file reads is the service’s or listed here as its own', () => {
  const own = namesIn(/\$\{([A-Z_]+)/g).filter((name) => !VARIABLES.includes(name))
  expect(new Set(own)).toEqual(OWN_VARIABLES)
})

test('the demo knows the channel of the simulated Kommo', async () => {
  const kommo = await startSimulatedKommo()
  await kommo.close()
  const secret = readFileSync(`${ROOT}/${demo['SECRETS_DIR']}/kommo_channel_secret`, 'utf8').trim()
  expect([demo['KOMMO_CHANNEL_ID'], secret]).toEqual([kommo.channelId, kommo.channelSecret])
})

test('with a channel id the file is valid', async (context) => {
  const id = 'f62a0162-46a7-430e-b06c-0ef798d76a21'
  const { stdout } = await compose(context, ['config'], { KOMMO_CHANNEL_ID: id })
  expect(stdout).toContain(`KOMMO_CHANNEL_ID: ${id}`)
})

test('without a channel id nothing starts, and the message names it', async (context) => {
  // Empty here wins over the `.env` of whoever runs the test.
  await expect(compose(context, ['config'], { KOMMO_CHANNEL_ID: '' })).rejects.toThrow(
    /put the id .* into \.env as KOMMO_CHANNEL_ID/,
  )
})

test('the demo needs no setting', async (context) => {
  const { stdout } = await compose(context, ['--env-file', 'deploy/demo/demo.env', 'config'], {})
  expect(stdout).toContain('KOMMO_BASE_URL: http://simulated-kommo:8080')
})
