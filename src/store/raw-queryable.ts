import type { ClientBase, Pool } from 'pg'
import { Prisma } from './generated/client.ts'
import type { Queryable } from './queryable.ts'
import type { StatementNames } from './statement-names.ts'

/**
 * Sends the same statements without Prisma's engine in between: for the one write that somebody waits for. A lone webhook
 * is answered a third sooner so (measured, docs/benchmarks.md).
 */
export function createRawQueryable(client: Pool | ClientBase, nameOf: StatementNames): Queryable {
  function query(strings: TemplateStringsArray, values: readonly unknown[]) {
    const { text, values: parameters } = Prisma.sql(strings, ...values)
    return client.query({ name: nameOf({ sql: text }), text, values: parameters })
  }
  return {
    async $queryRaw(strings, ...values) {
      const { rows } = await query(strings, values)
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as with Prisma, the caller knows what it asks for
      return rows as never
    },
    $executeRaw: async (strings, ...values) => (await query(strings, values)).rowCount ?? 0,
  }
}
