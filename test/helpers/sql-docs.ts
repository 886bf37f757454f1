import type { Pool } from 'pg'
import { z } from 'zod'

/** The moment of the results in docs/sql.md. */
export const NOW = '2026-05-08 12:00:00+00'

const relation = z.object({
  name: z.string(),
  kind: z.enum(['table', 'view']),
  comment: z.string().nullable(),
  columns: z.array(
    z.object({
      name: z.string(),
      type: z.string(),
      comment: z.string().nullable(),
      isKey: z.boolean(),
      /** The table that it refers to. */
      refersTo: z.string().nullable(),
    }),
  ),
})
type Relation = z.infer<typeof relation>

/** What schema `kommo` has, as the catalog tells it. */
export async function readSchema(pool: Pool): Promise<Relation[]> {
  const { rows } = await pool.query(`
    SELECT c.relname AS name, CASE WHEN c.relkind = 'v' THEN 'view' ELSE 'table' END AS kind,
      obj_description(c.oid, 'pg_class') AS comment,
      json_agg(json_build_object(
        'name', a.attname, 'type', replace(format_type(a.atttypid, a.atttypmod), 'timestamp(3) with time zone', 'timestamptz'),
        'comment', col_description(c.oid, a.attnum),
        'isKey', EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary AND a.attnum = ANY (indkey)),
        'refersTo', (SELECT r.relname FROM pg_constraint JOIN pg_class AS r ON r.oid = confrelid
                     WHERE conrelid = c.oid AND contype = 'f' AND a.attnum = ANY (conkey))
      ) ORDER BY a.attnum) AS columns
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'kommo'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
    GROUP BY c.oid, c.relname, c.relkind ORDER BY c.relkind, c.relname`)
  return z.array(relation).parse(rows)
}

export function renderDiagram(relations: readonly Relation[]): string {
  const tables = relations.filter(({ kind }) => kind === 'table')
  const links = tables.flatMap(({ name, columns }) =>
    columns
      .filter(({ refersTo }) => refersTo !== null)
      .map((column) => {
        const isOnlyKey = column.isKey && columns.filter(({ isKey }) => isKey).length === 1
        return `    ${column.refersTo} ||--${isOnlyKey ? 'o|' : 'o{'} ${name} : ${column.name}`
      }),
  )
  const entities = tables.flatMap(({ name, columns }) => [
    `    ${name} {`,
    ...columns.map((c) => {
      const marks = [...(c.isKey ? ['PK'] : []), ...(c.refersTo === null ? [] : ['FK'])].join(', ')
      return `        ${c.type
        .replace(/^kommo\./, '')
        .replace('[]', '_array')
        .replaceAll(' ', '_')} ${c.name} ${marks}`.trimEnd()
    }),
    '    }',
  ])
  return ['```mermaid', 'erDiagram', ...links, ...entities, '```'].join('\n')
}

export function renderColumns(relations: readonly Relation[]): string {
  return relations
    .map(({ name, kind, comment, columns }) =>
      [
        `### ${kind === 'view' ? 'View' : 'Table'} \`${name}\``,
        '',
        comment,
        '',
        '| column | type | meaning |',
        '| --- | --- | --- |',
        ...columns.map((c) => `| \`${c.name}\` | ${c.type} | ${(c.comment ?? '').replaceAll('|', '\\|')} |`),
      ].join('\n'),
    )
    .join('\n\n')
}

/** A dbt source: https://docs.getdbt.com/reference/source-properties */
export function renderSources(relations: readonly Relation[]): string {
  // A JSON string is a YAML string.
  const text = (value: string | null) => JSON.stringify(value ?? '')
  return [
    '# Made from the schema by test/integration/sql-docs.test.ts.',
    'version: 2',
    'sources:',
    '  - name: kommo',
    '    schema: kommo',
    '    description: Kommo chats, kept whole and current by kommo-sync.',
    '    tables:',
    ...relations.flatMap(({ name, comment, columns }) => [
      `      - name: ${name}`,
      `        description: ${text(comment)}`,
      '        columns:',
      ...columns.flatMap((c) => {
        const keys = columns.filter(({ isKey }) => isKey)
        return [
          `          - name: ${c.name}`,
          `            description: ${text(c.comment)}`,
          ...(c.isKey && keys.length === 1 ? ['            data_tests: [unique, not_null]'] : []),
        ]
      }),
    ]),
    '',
  ].join('\n')
}

/** Puts generated text between `<!-- generated: name -->` and `<!-- end -->`. */
export function withGenerated(markdown: string, name: string, content: string): string {
  return markdown.replace(
    new RegExp(`(<!-- generated: ${name} -->\n)[^]*?(<!-- end -->)`),
    (_all, begin: string, end: string) => `${begin}\n${content}\n\n${end}`,
  )
}

export interface DocumentedQuery {
  title: string
  sql: string
  /** As the document shows it, `null` when it does not yet. */
  result: string | null
}

const QUERY = /^### (\d+\. .*)\n([^#]*?)```sql\n([^]*?)```\n(?:\n```text\n([^]*?)```\n)?/gm

export function queriesIn(markdown: string): DocumentedQuery[] {
  return [...markdown.matchAll(QUERY)].map(([, title = '', , sql = '', result]) => ({
    title,
    sql,
    result: result ?? null,
  }))
}

/** Writes under each query what it gave. */
export function withResults(markdown: string, results: readonly string[]): string {
  let place = -1
  return markdown.replace(QUERY, (_all, title: string, about: string, sql: string) => {
    place += 1
    return `### ${title}\n${about}\`\`\`sql\n${sql}\`\`\`\n\n\`\`\`text\n${results[place] ?? ''}\`\`\`\n`
  })
}

const NUMBERS = new Set([20, 21, 23, 700, 701, 1700])

/** The result as `psql` shows it. */
export async function runQuery(pool: Pool, sql: string): Promise<string> {
  const client = await pool.connect()
  try {
    await client.query(`SET TIME ZONE 'UTC'`)
    const { fields, rows } = await client.query<(string | null)[]>({
      text: sql.replaceAll('now()', `timestamptz '${NOW}'`),
      rowMode: 'array',
      types: { getTypeParser: () => (value: string) => value },
    })
    const cells = rows.map((row) => row.map((value) => value ?? ''))
    const widths = fields.map(({ name }, i) =>
      Math.max(name.length, ...cells.map((row) => row[i]?.length ?? 0)),
    )
    const line = (values: readonly string[], right: (i: number) => boolean) =>
      values
        .map((v, i) => (right(i) ? v.padStart(widths[i] ?? 0) : v.padEnd(widths[i] ?? 0)))
        .join(' | ')
        .trimEnd()
    return [
      line(
        fields.map(({ name }) => name),
        () => false,
      ),
      widths.map((width) => '-'.repeat(width)).join('-+-'),
      ...cells.map((row) => line(row, (i) => NUMBERS.has(fields[i]?.dataTypeID ?? 0))),
      '',
    ].join('\n')
  } finally {
    await client.query('RESET TIME ZONE')
    client.release()
  }
}
