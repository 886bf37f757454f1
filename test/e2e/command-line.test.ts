import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { type SimulatedKommo, startSimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import { runHere } from '../helpers/command.ts'
import { type TestDatabase, createTestDatabase } from '../helpers/database.ts'
import { freshSeed } from '../helpers/fresh-seed.ts'
import { runCommand, runInTerminal, startCommand, startService } from '../helpers/service.ts'
import { untilSynced } from '../helpers/synced.ts'
import { differences, expectedTables, storedTables } from '../helpers/truth.ts'

const COMMANDS = ['serve', 'migrate', 'backfill', 'status', 'doctor']
/** Nothing listens there. */
const AWAY = 'postgresql://nobody:pass-word-1@127.0.0.1:9/nothing'

const doctorFacts = z.object({
  ok: z.boolean(),
  findings: z.array(z.object({ check: z.string(), ok: z.boolean().nullable(), detail: z.string() })),
})

let kommo: SimulatedKommo
let database: TestDatabase
let env: Record<string, string>
let folder: string

beforeAll(async () => {
  kommo = await startSimulatedKommo()
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'kommo-sync-cli-'))
  env = {
    DATABASE_URL: database.url,
    DATA_DIR: join(folder, 'data'),
    KOMMO_BASE_URL: kommo.url,
    KOMMO_CHANNEL_ID: kommo.channelId,
    KOMMO_CHANNEL_SECRET: kommo.channelSecret,
    KOMMO_REQUESTS_PER_SECOND: '2000',
  }
})

afterAll(async () => {
  await database?.drop()
  await kommo?.close()
  await rm(folder, { recursive: true, force: true })
})

/** The result of a command whose stdout must be one JSON document and nothing else. */
function json(stdout: string): unknown {
  return JSON.parse(stdout)
}

describe.concurrent('usage', () => {
  test('--help ends with 0, on stdout, and names every command and the exit codes', async () => {
    const { code, stdout, stderr } = await runCommand(['--help'])
    expect([code, stderr]).toEqual([0, ''])
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^ +${command}\\b`, 'm'))
    expect(stdout).toContain('0 done, 1 failed, 2 wrong usage or configuration')
  })

  test('a reader that goes away does not end a command with an error', async () => {
    const command = startCommand(['--help'])
    command.stopReading()
    expect(await command.exited).toEqual({ code: 0, signal: null })
  })

  test('the help of a command needs no configuration', async () => {
    const { code, stdout } = await runHere(['backfill', '--help'])
    expect(code).toBe(0)
    expect(stdout).toContain('--json')
  })

  test.each([
    [['nonsense']],
    [['status', '--nonsense']],
    [['backfill']],
    [['backfill', 'an-id', '--all']],
    [['backfill', 'an-id', '--scope', 'not-ours_x']],
    [[]],
  ])('%j ends with 2, an explanation on stderr, nothing on stdout', async (args) => {
    const { code, stdout, stderr } = await runHere(args, env)
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(stderr.length).toBeGreaterThan(20)
    expect(stderr).not.toMatch(/^ +at /m)
  })
})

describe.concurrent('configuration', () => {
  const wrong = {
    KOMMO_CHANNEL_ID: 'no-uuid',
    KOMMO_BASE_URL: 'ftp://x',
    KOMMO_REQUESTS_PER_SECOND: '-1',
    DATABASE_URL: 'mysql://x',
    PORT: '99999',
    ROLE: 'boss',
    RECONCILE_INTERVAL: 'often',
    RETENTION_DAYS: '0.5',
    LOG_LEVEL: 'loud',
  }

  test.each(['serve', 'doctor'])(
    '%s with wrong values ends with 2 and names every variable',
    async (command) => {
      const { code, stdout, stderr } = await runHere([command], wrong)
      expect(stdout).toBe('')
      for (const name of [...Object.keys(wrong), 'KOMMO_CHANNEL_SECRET']) expect(stderr).toContain(name)
      expect(code).toBe(2)
    },
  )

  test('nothing set names what is required', async () => {
    const { code, stderr } = await runHere(['serve'])
    expect(code).toBe(2)
    expect(stderr).toContain('KOMMO_CHANNEL_ID')
    expect(stderr).toContain('KOMMO_CHANNEL_SECRET')
  })

  test.each(['migrate', 'status', 'doctor', 'backfill'])(
    'a wrong LOG_LEVEL ends %s with 2',
    async (command) => {
      const args = command === 'backfill' ? ['backfill', '--all'] : [command]
      const { code, stderr } = await runHere(args, { ...env, LOG_LEVEL: 'loud' })
      expect(stderr).toContain('LOG_LEVEL')
      expect(code).toBe(2)
    },
  )

  test('an empty LOG_LEVEL counts as absent, as docker compose passes it', async () => {
    const { code, stderr } = await runHere(['status', '--json'], { ...env, LOG_LEVEL: '' })
    expect([code, stderr]).toEqual([0, ''])
  })

  test('secrets come from files, and a wrong file is named', async () => {
    const path = join(folder, 'secret')
    await writeFile(path, `${kommo.channelSecret}\n`)
    const { KOMMO_CHANNEL_SECRET: _, ...rest } = env
    const good = await runHere(['doctor', '--scope', kommo.scopeId], {
      ...rest,
      KOMMO_CHANNEL_SECRET_FILE: path,
    })
    expect(good.code).toBe(0)
    const gone = await runHere(['doctor'], { ...rest, KOMMO_CHANNEL_SECRET_FILE: `${path}.gone` })
    expect(gone.code).toBe(2)
    expect(gone.stderr).toContain('KOMMO_CHANNEL_SECRET_FILE')
  })
})

describe.concurrent('migrate', () => {
  test('makes the tables of an empty database, and nothing the second time', async () => {
    const empty = await createTestDatabase({ empty: true })
    try {
      const own = { DATABASE_URL: empty.url }
      const before = await runCommand(['status', '--json'], own)
      expect(before.code).toBe(1)
      expect(json(before.stdout)).toEqual({ pendingMigrations: expect.arrayContaining([expect.any(String)]) })

      const first = await runCommand(['migrate', '--json'], own)
      expect([first.code, first.stderr]).toEqual([0, ''])
      expect(json(first.stdout)).toEqual({ applied: expect.arrayContaining([expect.any(String)]) })
      const second = await runCommand(['migrate', '--json'], own)
      expect([second.code, json(second.stdout)]).toEqual([0, { applied: [] }])
      expect((await runCommand(['migrate'], own)).stdout).toContain('up to date')
      expect((await runCommand(['status'], own)).code).toBe(0)
    } finally {
      await empty.drop()
    }
  })

  test.each(['migrate', 'status', 'doctor'])('%s ends with 1 where no database answers', async (command) => {
    const { code, stdout, stderr } = await runCommand([command], { ...env, DATABASE_URL: AWAY })
    expect(code).toBe(1)
    expect(stdout + stderr).not.toContain('pass-word-1')
    expect(stdout + stderr).toMatch(/database|DATABASE_URL|ECONNREFUSED/i)
    expect(stdout + stderr).not.toMatch(/^ +at /m)
  })
})

describe('backfill', () => {
  test('of an id with its scope reads the whole conversation', async () => {
    const own = await createTestDatabase()
    try {
      const conversation = kommo.conversations.generate({
        messages: 130,
        seed: freshSeed('backfill one'),
        clientId: null,
      })
      const args = ['backfill', conversation.id, '--scope', conversation.scopeId, '--json']
      const { code, stdout } = await runCommand(args, { ...env, DATABASE_URL: own.url })
      expect([code, json(stdout)]).toEqual([0, { conversations: 1, complete: 1, dead: [] }])
      expect(differences(await storedTables(own.pool), expectedTables([conversation], []))).toEqual([])
    } finally {
      await own.drop()
    }
  })

  test('of an unknown id without a scope ends with 2 and calls for nothing', async () => {
    const known = kommo.conversations.generate({ messages: 3, seed: freshSeed('backfill known') })
    const own = await createTestDatabase()
    try {
      const { code, stderr } = await runCommand(['backfill', known.id, 'unknown'], {
        ...env,
        DATABASE_URL: own.url,
      })
      expect(code).toBe(2)
      expect(stderr).toContain('--scope')
      const { rows } = await own.pool.query('SELECT id FROM kommo.conversations')
      expect(rows).toEqual([])
    } finally {
      await own.drop()
    }
  })

  test('of a conversation that Kommo refuses ends with 1 and says why', async () => {
    const own = await createTestDatabase()
    try {
      const conversation = kommo.conversations.generate({ messages: 3, seed: freshSeed('backfill refused') })
      const undo = kommo.faults.add({ kind: 'status', status: 404, conversationId: conversation.id })
      const args = ['backfill', conversation.id, '--scope', conversation.scopeId, '--json']
      const { code, stdout } = await runCommand(args, { ...env, DATABASE_URL: own.url })
      undo()
      expect(code).toBe(1)
      expect(json(stdout)).toMatchObject({
        conversations: 1,
        complete: 0,
        dead: [{ id: conversation.id, lastError: expect.stringContaining('404') }],
      })
    } finally {
      await own.drop()
    }
  })

  test('--all reads every known conversation, beside a running service, and finds imported old messages', async () => {
    await using stack = new AsyncDisposableStack()
    const own = await createTestDatabase()
    stack.defer(() => own.drop())
    const ownEnv = { ...env, DATABASE_URL: own.url }
    const conversations: Conversation[] = []
    for (const messages of [0, 1, 60, 300]) {
      const conversation = kommo.conversations.generate({
        messages,
        seed: freshSeed(`backfill all ${messages}`),
        clientId: null,
      })
      conversations.push(conversation)
    }
    stack.use(await startService(ownEnv))
    const scope = ['--scope', kommo.scopeId]
    const first = await runCommand(['backfill', ...conversations.map(({ id }) => id), ...scope], ownEnv)
    expect(first.code).toBe(0)
    expect(first.stdout).toContain('4 of 4')
    await untilSynced(own.pool)

    const [, , , longest] = conversations
    longest?.importMessage({ text: 'Imported much later', sentAtMs: Date.parse('2020-02-02T02:02:02Z') })
    const all = await runCommand(['backfill', '--all', '--json'], ownEnv)
    expect([all.code, json(all.stdout)]).toEqual([0, { conversations: 4, complete: 4, dead: [] }])
    expect(differences(await storedTables(own.pool), expectedTables(conversations, []))).toEqual([])

    const status = await runCommand(['status', '--json'], ownEnv)
    expect(json(status.stdout)).toMatchObject({
      conversations: { total: 4, complete: 4, behind: 0, failing: 0, dead: 0 },
      messages: { total: 362 },
    })
    const text = await runCommand(['status'], ownEnv)
    expect([text.code, text.stderr]).toEqual([0, ''])
    expect(text.stdout).toMatch(/history complete +4/)
  })

  test('--all of an empty database is done at once', async () => {
    const own = await createTestDatabase()
    try {
      const { code, stdout } = await runCommand(['backfill', '--all', '--json'], {
        ...env,
        DATABASE_URL: own.url,
      })
      expect([code, json(stdout)]).toEqual([0, { conversations: 0, complete: 0, dead: [] }])
    } finally {
      await own.drop()
    }
  })

  test.skipIf(!hasScript())('shows a bar in a terminal (skipped without util-linux)', async () => {
    const conversation = kommo.conversations.generate({ messages: 120, seed: freshSeed('bar') })
    const args = ['backfill', conversation.id, '--scope', conversation.scopeId]
    const { code, shown, plain } = await runInTerminal(args, env)
    expect(code).toBe(0)
    expect(plain).toMatch(/[█░]{10,} +\d\/1 conversations/)
    expect(plain).toContain('Read 1 of 1 conversations')
    expect(shown).toContain('\u001B[?25h')
    const piped = await runCommand(args, env)
    for (const sign of ['█', '░', '\u001B']) expect(piped.stdout + piped.stderr).not.toContain(sign)
  })
})

describe.concurrent('doctor', () => {
  test('ends with 0 when all is well', async () => {
    const { code, stdout } = await runCommand(['doctor', '--scope', kommo.scopeId, '--json'], env)
    expect(code).toBe(0)
    const { ok, findings } = doctorFacts.parse(json(stdout))
    expect(ok).toBe(true)
    expect(findings.filter((finding) => finding.ok !== true)).toEqual([])
    expect(findings.map(({ check }) => check)).toEqual(
      expect.arrayContaining(['database', 'migrations', `channel ${kommo.channelId}`]),
    )
  })

  test('with a wrong secret ends with 1 and says so, without showing the secret', async () => {
    const secret = 'wrong-secret-0123456789'
    const args = ['doctor', '--scope', kommo.scopeId]
    const { code, stdout, stderr } = await runCommand(args, { ...env, KOMMO_CHANNEL_SECRET: secret })
    expect(code).toBe(1)
    expect(stdout).toMatch(/FAIL +channel .*secret/)
    expect(stdout + stderr).not.toContain(secret)
  })

  test('with the database away ends with 1, and still tells of the channel', async () => {
    const args = ['doctor', '--scope', kommo.scopeId, '--json']
    const { code, stdout } = await runCommand(args, { ...env, DATABASE_URL: AWAY })
    expect(code).toBe(1)
    const { findings } = doctorFacts.parse(json(stdout))
    expect(findings).toContainEqual({ check: 'database', ok: false, detail: expect.any(String) })
    expect(findings).toContainEqual({
      check: `channel ${kommo.channelId}`,
      ok: true,
      detail: expect.any(String),
    })
  })

  test('with Kommo away ends with 1 and says so', async () => {
    const { code, stdout } = await runCommand(['doctor'], { ...env, KOMMO_BASE_URL: 'http://127.0.0.1:9' })
    expect(code).toBe(1)
    expect(stdout).toMatch(/FAIL +channel .*could not be reached/)
  })

  test('on a database that is not migrated says what to do', async () => {
    const empty = await createTestDatabase({ empty: true })
    try {
      const { code, stdout } = await runCommand(['doctor'], { ...env, DATABASE_URL: empty.url })
      expect(code).toBe(1)
      expect(stdout).toMatch(/FAIL +migrations +run kommo-sync migrate/)
    } finally {
      await empty.drop()
    }
  })
})

function hasScript(): boolean {
  try {
    return execFileSync('script', ['--version']).toString().includes('util-linux')
  } catch {
    return false
  }
}
