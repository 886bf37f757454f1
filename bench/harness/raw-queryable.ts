import { createHash } from 'node:crypto'
import type { ClientBase, Pool } from 'pg'
import { Prisma } from '../../src/store/generated/client.ts'
import type { Queryable } from '../../src/store/queryable.ts'

/** Sends the statements of `src/store` through the bare driver, prepared by name: what Prisma is measured against. */
export function createRawQueryable(client: Pool | ClientBase): Queryable {
  const names = new WeakMap<TemplateStringsArray, string>()

  function query(strings: TemplateStringsArray, values: readonly unknown[]) {
    const { text, values: parameters } = Prisma.sql(strings, ...values)
    const name = names.get(strings) ?? `s_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`
    names.set(strings, name)
    return client.query({ name, text, values: parameters })
  }

  return {
    $queryRaw: async (strings, ...values) => {
      const { rows } = await query(strings, values)
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as in Prisma, the caller knows what it asks for
      return rows as never
    },
    $executeRaw: async (strings, ...values) => (await query(strings, values)).rowCount ?? 0,
  }
}
