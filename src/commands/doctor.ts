import type { Config } from '../config.ts'
import { formatScopeId, parseScopeId } from '../domain/scope.ts'
import { AppError } from '../errors.ts'
import { type KommoClient, createKommoClient } from '../kommo/client.ts'
import { openDatabase } from '../services/database.ts'
import { scopeOfEachChannel } from '../store/backfill.ts'
import { pendingMigrations } from '../store/migrations/migrate.ts'
import type { Database } from '../store/connection/database.ts'
import { type Output, printJson, table } from './output.ts'

export interface Finding {
  check: string
  /** `null`: could not be told; it does not count as a failure. */
  ok: boolean | null
  /** What was found and, if it is not well, what to do. */
  detail: string
}

/** Signatures are valid for 15 minutes (documented); a clock that is a minute off wants a look long before. */
const TOLERATED_SKEW_MS = 60_000
const OLDEST_POSTGRES = 15
/** A conversation, or account, that cannot exist: asking for it costs nothing and tells about the signature. */
const NOTHING = '00000000-0000-0000-0000-000000000000'

const WORDS = new Map<boolean | null, string>([
  [true, 'ok'],
  [false, 'FAIL'],
  [null, '?'],
])

/**
 * Checks what the service stands on, and says what to do about what is wrong.
 * @param scopeId a scope to make the trial requests with, where no conversation is known yet
 */
export async function doctor(config: Config, scopeId: string | null, output: Output): Promise<boolean> {
  const { findings, scopeIds } = await checkDatabase(config, output)
  findings.push(...(await checkKommo(config, scopeId === null ? scopeIds : [scopeId, ...scopeIds])))
  const isWell = findings.every(({ ok }) => ok !== false)
  if (output.json) printJson(output, { ok: isWell, findings })
  else output.out.write(table(findings.map(({ ok, check, detail }) => [WORDS.get(ok) ?? '?', check, detail])))
  return isWell
}

/** @returns also the scopes that conversations are known in, for the trial requests */
async function checkDatabase(
  config: Config,
  { log }: Output,
): Promise<{ findings: Finding[]; scopeIds: string[] }> {
  try {
    await using opened = await openDatabase(config, log)
    const { database } = opened
    const migrations = await checkMigrations(database)
    const findings = [await checkServer(database), migrations, await checkDatabaseClock(database)]
    return { findings, scopeIds: migrations.ok ? await scopeOfEachChannel(database.prisma) : [] }
  } catch (error) {
    const detail = error instanceof AppError ? error.message : 'cannot be reached: check DATABASE_URL'
    return { findings: [{ check: 'database', ok: false, detail }], scopeIds: [] }
  }
}

async function checkServer({ pool }: Database): Promise<Finding> {
  const { rows } = await pool.query<{ version: string; major: number }>(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major`,
  )
  const { version, major } = rows[0] ?? { version: 'unknown', major: 0 }
  const ok = major >= OLDEST_POSTGRES
  return {
    check: 'database',
    ok,
    detail: `PostgreSQL ${version}${ok ? '' : `; ${OLDEST_POSTGRES} or newer is needed`}`,
  }
}

async function checkMigrations({ pool }: Database): Promise<Finding> {
  const pending = await pendingMigrations(pool)
  const detail = pending.length === 0 ? 'up to date' : `run kommo-sync migrate (${pending.join(', ')})`
  return { check: 'migrations', ok: pending.length === 0, detail }
}

async function checkDatabaseClock({ pool }: Database): Promise<Finding> {
  const { rows } = await pool.query<{ now: Date }>('SELECT clock_timestamp() AS now')
  return judgeClock('database clock', rows[0]?.now ?? null)
}

async function checkKommo(config: Config, scopeIds: readonly string[]): Promise<Finding[]> {
  const kommo = createKommoClient({ baseUrl: config.kommoBaseUrl, channels: config.channels })
  try {
    const findings: Finding[] = []
    for (const { id } of config.channels) {
      const known = scopeIds.find((scopeId) => parseScopeId(scopeId).channelId.toLowerCase() === id)
      findings.push(...(await checkChannel(kommo, id, known ?? null)))
    }
    return findings
  } finally {
    await kommo.close()
  }
}

async function checkChannel(kommo: KommoClient, channelId: string, known: string | null): Promise<Finding[]> {
  const check = `channel ${channelId}`
  const scopeId = known ?? formatScopeId({ channelId, accountId: NOTHING })
  try {
    const { status, errorType, serverTime } = await kommo.probe({ scopeId, conversationId: NOTHING })
    const clock = serverTime === null ? [] : [judgeClock('clock against Kommo', serverTime)]
    return [...clock, { check, ...judgeAnswer(status, errorType, known !== null) }]
  } catch (error) {
    return [
      { check, ok: false, detail: error instanceof AppError ? error.message : 'the trial request failed' },
    ]
  }
}

function judgeAnswer(
  status: number,
  errorType: string | null,
  isKnownScope: boolean,
): Omit<Finding, 'check'> {
  const answer = errorType === null ? String(status) : `${status} ${errorType}`
  if (status === 200 || status === 204) return { ok: true, detail: `Kommo accepts the secret (${answer})` }
  if (status === 403) {
    return {
      ok: false,
      detail: `Kommo refuses the signature (${answer}): check the channel's secret and the clock`,
    }
  }
  if (status === 404 && !isKnownScope) {
    const detail = `cannot be told without an account (${answer}): name one with --scope CHANNEL_ACCOUNT`
    return { ok: null, detail }
  }
  if (status === 404) {
    return {
      ok: false,
      detail: `Kommo does not know the scope ${answer}: check the channel id and KOMMO_BASE_URL`,
    }
  }
  return { ok: false, detail: `Kommo answered ${answer}; the secret could not be tried` }
}

function judgeClock(check: string, theirs: Date | null): Finding {
  if (theirs === null) return { check, ok: false, detail: 'gave no time' }
  const skewMs = Date.now() - theirs.getTime()
  const ok = Math.abs(skewMs) <= TOLERATED_SKEW_MS
  const seconds = Math.round(Math.abs(skewMs) / 1000)
  const detail = `this machine is ${seconds} s ${skewMs < 0 ? 'behind' : 'ahead'}`
  return { check, ok, detail: ok ? `${detail}, which is fine` : `${detail}: set its clock (NTP)` }
}
