import { type ClientBase, type Pool, types } from 'pg'
import { Prisma } from '../generated/client.ts'
import type { Queryable } from './queryable.ts'
import type { StatementNames } from './statement-names.ts'

const INT8: number = types.builtins.INT8

/** As Prisma has it. */
const INT8_AS_BIGINT = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') =>
    oid === INT8 ? BigInt : types.getTypeParser(oid, format),
}

/** Sends the same statements without Prisma's engine in between: for what somebody waits for. */
export function createRawQueryable(client: Pool | ClientBase, nameOf: StatementNames): Queryable {
  function query(strings: TemplateStringsArray, values: readonly unknown[]) {
    const { text, values: parameters } = Prisma.sql(strings, ...values)
    return client.query({ name: nameOf({ sql: text }), text, values: parameters, types: INT8_AS_BIGINT })
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
