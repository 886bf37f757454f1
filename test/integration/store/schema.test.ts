import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Pool } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openSchemaEngine } from '../../../src/store/migrations/schema-engine.ts'
import { createTestDatabase, type TestDatabase } from '../../helpers/database.ts'

const SCHEMA = fileURLToPath(new URL('../../../prisma/schema.prisma', import.meta.url))

let migrated: TestDatabase
let empty: TestDatabase

beforeAll(async () => {
  ;[migrated, empty] = await Promise.all([createTestDatabase(), createTestDatabase({ empty: true })])
})

afterAll(() => Promise.all([migrated.drop(), empty.drop()]))

/** What makes up schema `kommo`, one line a thing. */
async function catalog(pool: Pool): Promise<string[]> {
  const { rows } = await pool.query<{ thing: string }>(`
    WITH relation AS (
      SELECT oid, relname, relkind FROM pg_class WHERE relnamespace = 'kommo'::regnamespace
    )
    SELECT format('relation %s %s', relkind, relname) AS thing FROM relation
    UNION ALL
    SELECT format('column %s.%s %s%s default %s identity %s generated %s', relname, attname,
                  format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' not null' ELSE '' END,
                  pg_get_expr(adbin, adrelid), attidentity, attgenerated)
      FROM relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
      LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
     WHERE relkind IN ('r', 'p', 'm')
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(indexrelid)) FROM pg_index JOIN relation ON oid = indexrelid
    UNION ALL
    SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
      FROM pg_constraint WHERE connamespace = 'kommo'::regnamespace
    UNION ALL
    SELECT format('enum %s %s', typname, string_agg(enumlabel, ', ' ORDER BY enumsortorder))
      FROM pg_type JOIN pg_enum ON enumtypid = pg_type.oid
     WHERE typnamespace = 'kommo'::regnamespace GROUP BY typname
    UNION ALL
    SELECT format('trigger %s %s', tgrelid::regclass, pg_get_triggerdef(pg_trigger.oid))
      FROM pg_trigger JOIN relation ON relation.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL
    SELECT format('function %s', oid::regprocedure) FROM pg_proc WHERE pronamespace = 'kommo'::regnamespace`)
  return rows.map((row) => row.thing).toSorted()
}

test('the migrations make what prisma/schema.prisma says', async () => {
  const { engine, close } = await openSchemaEngine(empty.url)
  try {
    const { stdout } = await engine.diff({
      from: { tag: 'empty' },
      to: {
        tag: 'schemaDatamodel',
        files: [{ path: 'schema.prisma', content: await readFile(SCHEMA, 'utf8') }],
      },
      script: true,
      exitCode: null,
      filters: { externalTables: [], externalEnums: [] },
    })
    await empty.pool.query(stdout ?? '')
  } finally {
    await close()
  }
  const expected = await catalog(empty.pool)
  expect(expected.length).toBeGreaterThan(50)
  const made = await catalog(migrated.pool)
  expect(made.filter((thing) => !isBeyondPrisma(thing))).toEqual(expected)
  // Where the user is not called kommo, Postgres names the schema too.
  const named = (thing: string) => thing.replace(/ CREATE [^]*/, '').replace(' kommo.', ' ')
  expect(made.filter(isBeyondPrisma).map(named)).toEqual([
    'function keep_media_revision()',
    'function keep_message_revision()',
    'function note_conversation_clients()',
    'function note_other_client()',
    'function search_fold(text)',
    'function search_messages(text)',
    'function search_query(text)',
    'function search_vector(text)',
    'index',
    'index',
    'index',
    'relation i conversations_due_idx',
    'relation i messages_conversation_id_sent_at_id_idx',
    'relation i messages_search_idx',
    'relation v conversation_overview',
    'relation v daily_activity',
    'relation v media_overview',
    'relation v reactions',
    'relation v response_times',
    'relation v sync_health',
    'relation v transcript',
    'trigger media',
    'trigger messages',
    'trigger messages',
    'trigger messages',
  ])
})

/** What a Prisma schema cannot say, so that only the migrations make it. */
function isBeyondPrisma(thing: string): boolean {
  return /^(function|trigger|relation v) |conversations_due_idx|messages_conversation_id_sent_at_id_idx|messages_search_idx/.test(
    thing,
  )
}

test('the indexes of the work to be done hold that and nothing else', async () => {
  const things = await catalog(migrated.pool)
  expect(things.filter((thing) => thing.includes(' WHERE '))).toEqual([
    "index CREATE INDEX conversations_due_idx ON kommo.conversations USING btree (split_part(scope_id, '_'::text, 1), run_after) " +
      'WHERE ((requested > processed) AND (dead_at IS NULL))',
    'index CREATE INDEX conversations_read_again_idx ON kommo.conversations USING btree (read_again_at) ' +
      'WHERE ((requested = processed) AND (dead_at IS NULL))',
    'index CREATE INDEX messages_missing_idx ON kommo.messages USING btree (missing_since) ' +
      'WHERE (missing_since IS NOT NULL)',
    'index CREATE INDEX webhook_events_error_idx ON kommo.webhook_events USING btree (kind, id) ' +
      'WHERE (error IS NOT NULL)',
    'index CREATE INDEX webhook_events_pending_idx ON kommo.webhook_events USING btree (id) ' +
      'WHERE (processed_at IS NULL)',
  ])
})

test('the schema and every table, view, column and type in it explains itself with a comment', async () => {
  const { rows } = await migrated.pool.query<{ silent: string }>(`
    SELECT 'schema' AS silent WHERE obj_description('kommo'::regnamespace, 'pg_namespace') IS NULL
    UNION ALL
    SELECT relname FROM pg_class
     WHERE relnamespace = 'kommo'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
       AND obj_description(oid, 'pg_class') IS NULL
    UNION ALL
    SELECT relname || '.' || attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
     WHERE relnamespace = 'kommo'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
       AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL
    UNION ALL
    SELECT typname FROM pg_type
     WHERE typnamespace = 'kommo'::regnamespace AND typtype IN ('e', 'd')
       AND obj_description(oid, 'pg_type') IS NULL
    UNION ALL
    SELECT cfgname FROM pg_ts_config
     WHERE cfgnamespace = 'kommo'::regnamespace AND obj_description(oid, 'pg_ts_config') IS NULL
    UNION ALL
    SELECT proname FROM pg_proc
     WHERE pronamespace = 'kommo'::regnamespace AND prorettype <> 'trigger'::regtype AND obj_description(oid, 'pg_proc') IS NULL`)
  expect(rows).toEqual([])
})
