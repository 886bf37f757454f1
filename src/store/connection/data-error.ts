import { DatabaseError } from 'pg'
import { Prisma } from '../generated/client.ts'

/**
 * Whether the database refused the values themselves (classes 22 data exception, 23 constraint, 54 limit exceeded):
 * then trying again cannot help, while a lost connection, a deadlock or a timeout passes.
 */
export function isDataError(error: unknown): boolean {
  return /^(22|23|54)/.test(sqlStateOf(error) ?? '')
}

function sqlStateOf(error: unknown): string | null {
  if (error instanceof DatabaseError) return error.code ?? null
  if (!(error instanceof Prisma.PrismaClientKnownRequestError)) return null
  const cause: unknown = Object(error.meta?.['driverAdapterError'])['cause']
  const code: unknown = Object(cause)['originalCode']
  return typeof code === 'string' ? code : null
}
