import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../../../src/config.ts'

const SCRIPT = fileURLToPath(new URL('../../../deploy/create-secrets', import.meta.url))

function emptyFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'secrets-'))
  onTestFinished(() => rmSync(path, { recursive: true }))
  return join(path, 'secrets')
}

function createSecrets(dir: string, input: string): number | null {
  return spawnSync(SCRIPT, [dir], { input }).status
}

test('its files are a configuration that the service accepts', () => {
  const dir = emptyFolder()
  expect(createSecrets(dir, 'the-secret\n')).toBe(0)
  const config = loadConfig({
    KOMMO_CHANNEL_ID: 'f62a0162-46a7-430e-b06c-0ef798d76a21',
    KOMMO_CHANNEL_SECRET_FILE: `${dir}/kommo_channel_secret`,
    KOMMO_CHANNEL_SECRET_PREVIOUS_FILE: `${dir}/kommo_channel_secret_previous`,
    DATABASE_URL_FILE: `${dir}/database_url`,
    ADMIN_TOKEN_FILE: `${dir}/admin_token`,
  })
  expect(config.channels[0]).toMatchObject({ secret: 'the-secret', previousSecret: null })
  const password = readFileSync(`${dir}/database_password`, 'utf8').trim()
  expect(config.databaseUrl).toBe(`postgresql://kommo:${password}@postgres:5432/kommo`)
})

test('only its owner may enter the folder, and any user of a container may read a file', () => {
  const dir = emptyFolder()
  createSecrets(dir, 'the-secret\n')
  const mode = (path: string) => statSync(path).mode & 0o777
  expect(mode(dir)).toBe(0o700)
  expect(readdirSync(dir)).toHaveLength(8)
  expect(new Set(readdirSync(dir).map((name) => mode(join(dir, name))))).toEqual(new Set([0o644]))
})

test('run again, it keeps what is there and asks for nothing', () => {
  const dir = emptyFolder()
  createSecrets(dir, 'the-secret\n')
  const contents = () => readdirSync(dir).map((name) => readFileSync(join(dir, name), 'utf8'))
  const before = contents()
  expect(createSecrets(dir, '')).toBe(0)
  expect(contents()).toEqual(before)
})

test('with several channels written down it asks for no secret', () => {
  const dir = emptyFolder()
  mkdirSync(dir)
  writeFileSync(join(dir, 'kommo_channels'), '[]')
  expect(createSecrets(dir, '')).toBe(0)
  expect(readFileSync(join(dir, 'kommo_channel_secret'), 'utf8').trim()).toBe('')
  expect(readFileSync(join(dir, 'kommo_channels'), 'utf8')).toBe('[]')
})

test('without a secret it fails and makes no file', () => {
  const dir = emptyFolder()
  expect(createSecrets(dir, '')).toBe(2)
  expect(readdirSync(dir)).toEqual([])
})
