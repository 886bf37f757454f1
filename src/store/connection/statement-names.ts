import { createHash } from 'node:crypto'

/** The name under which a connection keeps a statement that it has parsed; `''`: none. */
export type StatementNames = (query: { sql: string }) => string

/** Names stay with each connection until it ends, and Prisma makes a new text for every length of a list. */
const MOST_NAMED_STATEMENTS = 200

/**
 * One name for one SQL text, so that a connection parses and plans it once. Later texts stay unnamed.
 * @param isOwnSession false behind a pooler, where the next session does not know the name
 */
export function createStatementNames(isOwnSession: () => boolean): StatementNames {
  const names = new Map<string, string>()
  return ({ sql }) => {
    if (!isOwnSession()) return ''
    const known = names.get(sql)
    if (known !== undefined) return known
    if (names.size >= MOST_NAMED_STATEMENTS) return ''
    const name = `s_${createHash('sha256').update(sql).digest('base64url').slice(0, 24)}`
    names.set(sql, name)
    return name
  }
}
