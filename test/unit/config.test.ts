import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SECRET_VARIABLES, VARIABLES, loadConfig } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'

const CHANNEL = {
  KOMMO_CHANNEL_ID: 'F62A0162-46a7-430e-b06c-0ef798d76a21',
  KOMMO_CHANNEL_SECRET: 'the-secret',
}

function faultsOf(env: NodeJS.ProcessEnv): string {
  try {
    loadConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  throw new Error('the configuration was accepted')
}

function fileWith(content: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'config-')), 'secret')
  writeFileSync(path, content)
  return path
}

test('a channel id and a secret are enough', () => {
  expect(loadConfig(CHANNEL)).toEqual({
    channels: [{ id: CHANNEL.KOMMO_CHANNEL_ID.toLowerCase(), secret: 'the-secret', previousSecret: null }],
    kommoBaseUrl: 'https://amojo.kommo.com',
    requestsPerSecond: 7,
    databaseUrl: null,
    dataDir: '.data',
    host: '0.0.0.0',
    port: 3000,
    trustedProxies: [],
    role: 'all',
    drainDelayMs: 1000,
    reconcileIntervalMs: 3_600_000,
    retentionDays: 30,
    adminToken: null,
    hintDoors: [],
    logLevel: 'info',
  })
})

test('several channels come as JSON', () => {
  const { channels } = loadConfig({
    KOMMO_CHANNELS: JSON.stringify([
      { id: 'f62a0162-46a7-430e-b06c-0ef798d76a21', secret: 'one' },
      { id: '344a5002-f8ca-454d-af3d-396180102ac7', secret: 'two', previousSecret: 'old' },
    ]),
  })
  expect(channels.map(({ secret, previousSecret }) => [secret, previousSecret])).toEqual([
    ['one', null],
    ['two', 'old'],
  ])
})

test('proxies are addresses, ranges and names of ranges, with commas between', () => {
  const given = '10.0.0.1, 172.16.0.0/12,fd00::/8 ,loopback'
  expect(loadConfig({ ...CHANNEL, TRUST_PROXY: given }).trustedProxies).toEqual([
    '10.0.0.1',
    '172.16.0.0/12',
    'fd00::/8',
    'loopback',
  ])
})

test.each(['true', '1', '10.0.0.0/33', '10.0.0.1/8/8', 'proxy.example', '10.0.0.1,', '::/129'])(
  'TRUST_PROXY is not %s',
  (given) => {
    expect(faultsOf({ ...CHANNEL, TRUST_PROXY: given })).toContain('TRUST_PROXY: must be addresses or ranges')
  },
)

test('an empty variable counts as absent', () => {
  expect(loadConfig({ ...CHANNEL, KOMMO_CHANNELS: '', DATABASE_URL: ' ', PORT: '' }).port).toBe(3000)
})

test('one message names every faulty variable and shows no value', () => {
  const message = faultsOf({
    KOMMO_CHANNEL_ID: 'not-a-uuid',
    KOMMO_CHANNEL_SECRET_FILE: '/nowhere/secret',
    KOMMO_BASE_URL: 'ftp://host',
    KOMMO_REQUESTS_PER_SECOND: '0',
    DATABASE_URL: 'mysql://user:very-private@host/db',
    PORT: '70000',
    ROLE: 'boss',
    RECONCILE_INTERVAL: 'often',
    RETENTION_DAYS: '-1',
    ADMIN_TOKEN: 'short-one',
    LOG_LEVEL: 'loud',
  })
  for (const name of [
    'KOMMO_CHANNEL_ID',
    'KOMMO_CHANNEL_SECRET_FILE',
    'KOMMO_BASE_URL',
    'KOMMO_REQUESTS_PER_SECOND',
    'DATABASE_URL',
    'PORT',
    'ROLE',
    'RECONCILE_INTERVAL',
    'RETENTION_DAYS',
    'ADMIN_TOKEN',
    'LOG_LEVEL',
  ]) {
    expect(message, name).toMatch(new RegExp(`^ {2}${name}: `, 'm'))
  }
  expect(message).not.toMatch(/very-private|short-one|boss/)
})

test('without a channel both variables are named', () => {
  const message = faultsOf({})
  expect(message).toMatch(/KOMMO_CHANNEL_ID: is required/)
  expect(message).toMatch(/KOMMO_CHANNEL_SECRET: is required/)
})

test('commands that only look into the database need no channel', () => {
  expect(loadConfig({}, { channels: 'optional' }).channels).toEqual([])
})

test('one channel and several at the same time are refused', () => {
  expect(faultsOf({ ...CHANNEL, KOMMO_CHANNELS: '[]' })).toMatch(/either KOMMO_CHANNELS or KOMMO_CHANNEL_ID/)
})

test.each(SECRET_VARIABLES)('%s can come from a file', (name) => {
  const values: Record<string, string> = {
    KOMMO_CHANNEL_SECRET: 'from-a-file',
    KOMMO_CHANNEL_SECRET_PREVIOUS: 'from-a-file',
    KOMMO_CHANNELS: '[{"id":"f62a0162-46a7-430e-b06c-0ef798d76a21","secret":"from-a-file"}]',
    DATABASE_URL: 'postgresql://from-a-file/db',
    ADMIN_TOKEN: 'from-a-file-and-long-enough',
    KOMMO_HINTS: JSON.stringify([
      {
        scope_id: 'f62a0162-46a7-430e-b06c-0ef798d76a21_11111111-2222-4333-8444-555555555555',
        token: 'from-a-file-and-long-enough',
      },
    ]),
  }
  const others = Object.entries(CHANNEL).filter(([other]) => name !== 'KOMMO_CHANNELS' && other !== name)
  const env = { ...Object.fromEntries(others), [`${name}_FILE`]: fileWith(`${values[name]}\n`) }
  expect(JSON.stringify(loadConfig(env))).toContain('from-a-file')
})

test('an empty file counts as absent', () => {
  const empty = fileWith('\n')
  expect(loadConfig({ ...CHANNEL, KOMMO_CHANNEL_SECRET_PREVIOUS_FILE: empty })).toEqual(loadConfig(CHANNEL))
  expect(faultsOf({ KOMMO_CHANNEL_ID: CHANNEL.KOMMO_CHANNEL_ID, KOMMO_CHANNEL_SECRET_FILE: empty })).toMatch(
    /KOMMO_CHANNEL_SECRET: is required/,
  )
})

test('a file that cannot be read is one fault, not two', () => {
  const message = faultsOf({
    KOMMO_CHANNEL_ID: CHANNEL.KOMMO_CHANNEL_ID,
    KOMMO_CHANNEL_SECRET_FILE: '/nowhere',
  })
  expect(message).toMatch(/KOMMO_CHANNEL_SECRET_FILE: cannot read/)
  expect(message).not.toMatch(/is required/)
})

test('a secret given twice is refused', () => {
  expect(faultsOf({ ...CHANNEL, KOMMO_CHANNEL_SECRET_FILE: fileWith('x') })).toMatch(/not both/)
})

describe('durations', () => {
  test.each([
    ['0', 0],
    ['90s', 90_000],
    ['1.5m', 90_000],
    ['15m', 900_000],
    ['1h', 3_600_000],
    ['2d', 172_800_000],
    ['250ms', 250],
  ])('%s is %i ms', (text, ms) => {
    expect(loadConfig({ ...CHANNEL, RECONCILE_INTERVAL: text }).reconcileIntervalMs).toBe(ms)
  })
})

test('.env.example names exactly the variables that are read, with their defaults', () => {
  const example = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8')
  const lines = [...example.matchAll(/^([A-Z_]+)=(.*)$/gm)]
  expect(lines.map(([, name]) => name)).toEqual(VARIABLES)
  const given = Object.fromEntries(lines.map(([, name, value]) => [name, value]))
  expect(loadConfig({ ...given, ...CHANNEL })).toEqual(loadConfig(CHANNEL))
})
