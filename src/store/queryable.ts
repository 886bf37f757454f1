import type { PrismaClient } from './generated/client.ts'

/** A Prisma client or a transaction of one: what a statement needs to run. */
export type Queryable = Pick<PrismaClient, '$queryRaw' | '$executeRaw'>
