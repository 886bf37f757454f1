import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { migrate } from '../../src/store/migrations/migrate.ts'
import { runOnServer } from './run-on-server.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    databaseServer: { url: string; template: string }
  }
}

const TEMPLATE = 'test_template'

interface Shared {
  url: string
  users: number
  stop: () => Promise<void>
}

declare global {
  // Vitest loads this file once for each project, all in one process.
  var testDatabaseServer: Promise<Shared> | undefined
}

/**
 * One server a run for all test files that want a database: a vitest `globalSetup`. It is a fresh embedded Postgres, or the
 * one at TEST_DATABASE_URL, whose user may create databases; one run at a time may use that. Tests that stop or kill a server
 * bring their own in any case.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  globalThis.testDatabaseServer ??= start()
  const server = await globalThis.testDatabaseServer
  server.users += 1
  project.provide('databaseServer', { url: server.url, template: TEMPLATE })
  return async () => {
    server.users -= 1
    if (server.users > 0) return
    globalThis.testDatabaseServer = undefined
    await server.stop()
  }
}

async function start(): Promise<Shared> {
  const url = process.env['TEST_DATABASE_URL']
  if (url === undefined || url === '') return startEmbedded()
  await createTemplate(url)
  return { url, users: 0, stop: () => dropTemplate(url) }
}

async function startEmbedded(): Promise<Shared> {
  const dataDir = await mkdtemp(join(tmpdir(), 'kommo-sync-test-'))
  const silent = { info() {}, warn() {}, error() {} }
  const server = await startEmbeddedPostgres({ dataDir, log: silent, durable: false })
  const stop = async () => {
    await server.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
  try {
    await createTemplate(server.url)
  } catch (error) {
    await stop()
    throw error
  }
  return { url: server.url, users: 0, stop }
}

async function createTemplate(serverUrl: string): Promise<void> {
  // A run that was killed may have left it.
  await dropTemplate(serverUrl)
  await runOnServer(serverUrl, `CREATE DATABASE ${TEMPLATE}`)
  const url = new URL(serverUrl)
  url.pathname = `/${TEMPLATE}`
  await migrate(url.href)
}

function dropTemplate(serverUrl: string): Promise<void> {
  return runOnServer(serverUrl, `DROP DATABASE IF EXISTS ${TEMPLATE} WITH (FORCE)`)
}
