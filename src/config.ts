import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { z } from 'zod'
import type { Channel } from './domain/channel.ts'
import type { HintDoor } from './domain/hint.ts'
import { parseScopeId } from './domain/scope.ts'
import { ConfigError } from './errors.ts'

export type Role = 'all' | 'receiver' | 'worker'

export interface Config {
  channels: readonly Channel[]
  /** Origin of the Chats API, no trailing slash. */
  kommoBaseUrl: string
  /** For each channel, all replicas together. */
  requestsPerSecond: number
  /** `null`: use the embedded Postgres. */
  databaseUrl: string | null
  dataDir: string
  host: string
  port: number
  /** Proxies in front, whose word on the client's address is taken: addresses, CIDR or names of ranges. */
  trustedProxies: readonly string[]
  role: Role
  /** After a signal: how long webhooks are still taken while `/readyz` says that they should go elsewhere. */
  drainDelayMs: number
  /** How often conversations are read again without a webhook; 0 is never. */
  reconcileIntervalMs: number
  retentionDays: number
  adminToken: string | null
  /** Where Kommo's general account webhook is taken as a hint; `[]`: nowhere. */
  hintDoors: readonly HintDoor[]
  logLevel: string
}

const UNITS_MS = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])

const duration = z
  .string()
  .regex(/^(0|\d+(\.\d+)?(ms|s|m|h|d))$/, 'must be 0 or a number with a unit, like 90s, 15m or 1h')
  .transform((text) => {
    const unit = text.replace(/^[\d.]+/, '')
    return Math.round(Number.parseFloat(text) * (UNITS_MS.get(unit) ?? 0))
  })

const channelId = z
  .string()
  .regex(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i, 'must be the channel id that Kommo gave you (a UUID)')
  .transform((id) => id.toLowerCase())

const secret = z.string().min(1, 'must not be empty')

const wholeNumber = (minimum: number, maximum: number) =>
  z
    .string()
    .regex(/^\d+$/, `must be a whole number from ${minimum} to ${maximum}`)
    .transform(Number)
    .refine((n) => n >= minimum && n <= maximum, `must be a whole number from ${minimum} to ${maximum}`)

const jsonLike = (example: string) =>
  z.string().transform((text, context) => {
    try {
      return JSON.parse(text) as unknown
    } catch {
      context.addIssue({ code: 'custom', message: `must be JSON like ${example}` })
      return z.NEVER
    }
  })

const channelList = jsonLike('[{"id":"…","secret":"…"}]').pipe(
  z
    .array(z.strictObject({ id: channelId, secret, previousSecret: secret.optional() }))
    .min(1, 'must name at least one channel'),
)

const RANGES = new Set(['loopback', 'linklocal', 'uniquelocal'])

const proxies = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .refine(
    (parts) => parts.every((part) => RANGES.has(part) || isAddressRange(part)),
    'must be addresses or ranges like 10.0.0.0/8, or loopback, linklocal, uniquelocal; several with commas between',
  )

function isAddressRange(text: string): boolean {
  const [address = '', length = '0', ...rest] = text.split('/')
  const version = isIP(address)
  const longest = version === 6 ? 128 : 32
  return version !== 0 && rest.length === 0 && /^\d{1,3}$/.test(length) && Number(length) <= longest
}

const hintDoor = z.strictObject({
  scope_id: z
    .string()
    .regex(/^[\da-f-]{36}_[\da-f-]{36}$/i, 'must be a scope like CHANNEL_ACCOUNT (two UUIDs)')
    .transform((id) => id.toLowerCase()),
  // It is a part of the address that is given to Kommo.
  token: z.string().regex(/^[\w.~-]{16,200}$/, 'must be 16 to 200 letters, digits or any of - . _ ~'),
  origin: z.string().min(1, 'must not be empty').optional(),
})

const hintDoors = jsonLike('[{"scope_id":"…","token":"…"}]').pipe(
  z
    .array(hintDoor)
    .refine(
      (doors) => new Set(doors.map(({ token }) => token)).size === doors.length,
      'must not have the same token twice',
    ),
)

/** Variables that may also be given as `NAME_FILE`, a path, for Docker and Kubernetes secrets. */
export const SECRET_VARIABLES = [
  'KOMMO_CHANNEL_SECRET',
  'KOMMO_CHANNEL_SECRET_PREVIOUS',
  'KOMMO_CHANNELS',
  'DATABASE_URL',
  'ADMIN_TOKEN',
  'KOMMO_HINTS',
] as const

const environment = z.object({
  KOMMO_CHANNEL_ID: channelId.optional(),
  KOMMO_CHANNEL_SECRET: secret.optional(),
  KOMMO_CHANNEL_SECRET_PREVIOUS: secret.optional(),
  KOMMO_CHANNELS: channelList.optional(),
  KOMMO_BASE_URL: z
    .url({ protocol: /^https?$/, error: 'must be an address like https://amojo.kommo.com' })
    .transform((text) => new URL(text))
    .refine((url) => url.pathname === '/' && url.search === '', 'must not have a path or a query')
    .transform((url) => url.origin)
    .prefault('https://amojo.kommo.com'),
  KOMMO_REQUESTS_PER_SECOND: z
    .string()
    .transform(Number)
    .refine((n) => n > 0 && n <= 10_000, 'must be a number above 0, at most 10000')
    .prefault('7'),
  DATABASE_URL: z
    .url({ protocol: /^postgres(ql)?$/, error: 'must be like postgresql://user:password@host:5432/database' })
    .optional(),
  DATA_DIR: z.string().prefault('.data'),
  HOST: z.string().prefault('0.0.0.0'),
  PORT: wholeNumber(0, 65_535).prefault('3000'),
  TRUST_PROXY: proxies.optional(),
  ROLE: z.enum(['all', 'receiver', 'worker'], { error: 'must be all, receiver or worker' }).prefault('all'),
  DRAIN_DELAY: duration.refine((ms) => ms <= 300_000, 'must be at most 5m').prefault('1s'),
  RECONCILE_INTERVAL: duration.prefault('1h'),
  RETENTION_DAYS: wholeNumber(1, 36_500).prefault('30'),
  ADMIN_TOKEN: z.string().min(16, 'must have at least 16 characters').optional(),
  KOMMO_HINTS: hintDoors.optional(),
  LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      error: 'must be fatal, error, warn, info, debug, trace or silent',
    })
    .prefault('info'),
})

/** Every variable that the service reads, in the order of `.env.example`. */
export const VARIABLES = Object.keys(environment.shape)

export interface LoadConfigOptions {
  /** Commands that only look into the database work without a channel. */
  channels: 'required' | 'optional'
}

/**
 * Reads the configuration from an environment.
 * @throws ConfigError that names every faulty variable at once; it never shows a value.
 */
export function loadConfig(
  env: NodeJS.ProcessEnv,
  { channels }: LoadConfigOptions = { channels: 'required' },
): Config {
  const { given, faults } = readVariables(env)
  const parsed = environment.safeParse(given)
  if (!parsed.success) {
    faults.push(...parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`))
  }
  // Apart from the schema, so that these faults are reported together with the others.
  faults.push(
    ...channelFaults(
      (name) => name in given || faults.some((fault) => fault.startsWith(`${name}_FILE:`)),
      channels,
    ),
  )
  if (parsed.success && channels === 'required') faults.push(...hintFaults(parsed.data))
  if (faults.length > 0 || !parsed.success) {
    throw new ConfigError(`The configuration cannot be used:\n${faults.map((f) => `  ${f}`).join('\n')}`)
  }

  const values = parsed.data
  return Object.freeze({
    channels: channelsOf(values),
    kommoBaseUrl: values.KOMMO_BASE_URL,
    requestsPerSecond: values.KOMMO_REQUESTS_PER_SECOND,
    databaseUrl: values.DATABASE_URL ?? null,
    dataDir: values.DATA_DIR,
    host: values.HOST,
    port: values.PORT,
    trustedProxies: values.TRUST_PROXY ?? [],
    role: values.ROLE,
    drainDelayMs: values.DRAIN_DELAY,
    reconcileIntervalMs: values.RECONCILE_INTERVAL,
    retentionDays: values.RETENTION_DAYS,
    adminToken: values.ADMIN_TOKEN ?? null,
    hintDoors: (values.KOMMO_HINTS ?? []).map(({ scope_id: scopeId, token, origin = null }) => ({
      scopeId,
      token,
      origin,
    })),
    logLevel: values.LOG_LEVEL,
  })
}

/** What is given, directly or in a file. What is empty counts as absent: `docker compose` passes `NAME=`, or an empty file. */
function readVariables(env: NodeJS.ProcessEnv): { given: Record<string, string>; faults: string[] } {
  const given: Record<string, string> = {}
  const faults: string[] = []
  for (const name of VARIABLES) {
    const value = env[name]?.trim()
    if (value) given[name] = value
  }
  for (const name of SECRET_VARIABLES) {
    const path = env[`${name}_FILE`]?.trim()
    if (!path) continue
    if (name in given) {
      faults.push(`${name}_FILE: give either ${name} or ${name}_FILE, not both`)
      continue
    }
    try {
      const value = readFileSync(path, 'utf8').trim()
      if (value) given[name] = value
    } catch (error) {
      faults.push(`${name}_FILE: cannot read ${path} (${codeOf(error)})`)
    }
  }
  return { given, faults }
}

function channelFaults(
  isGiven: (name: string) => boolean,
  channels: LoadConfigOptions['channels'],
): string[] {
  const single = ['KOMMO_CHANNEL_ID', 'KOMMO_CHANNEL_SECRET'].filter(isGiven)
  if (isGiven('KOMMO_CHANNELS')) {
    return single.map((name) => `${name}: give either KOMMO_CHANNELS or ${name}, not both`)
  }
  if (channels === 'optional' && single.length === 0) return []
  return ['KOMMO_CHANNEL_ID', 'KOMMO_CHANNEL_SECRET']
    .filter((name) => !single.includes(name))
    .map((name) => `${name}: is required (or KOMMO_CHANNELS for several channels)`)
}

function channelsOf(values: z.infer<typeof environment>): Channel[] {
  const listed = values.KOMMO_CHANNELS?.map(({ id, secret: text, previousSecret }) => ({
    id,
    secret: text,
    previousSecret: previousSecret ?? null,
  }))
  if (listed) return listed
  const { KOMMO_CHANNEL_ID: id, KOMMO_CHANNEL_SECRET: text, KOMMO_CHANNEL_SECRET_PREVIOUS: previous } = values
  if (id === undefined || text === undefined) return []
  return [{ id, secret: text, previousSecret: previous ?? null }]
}

function hintFaults(values: z.infer<typeof environment>): string[] {
  const known = channelsOf(values).map(({ id }) => id)
  // Without a channel, that is the fault.
  if (known.length === 0) return []
  const isStray = (values.KOMMO_HINTS ?? []).some(
    ({ scope_id: scopeId }) => !known.includes(parseScopeId(scopeId).channelId),
  )
  return isStray ? ['KOMMO_HINTS: names a scope whose channel is not configured'] : []
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
}
