import { Prisma } from '../generated/client.ts'

/**
 * Put where a statement returns values, it lets the transaction commit without waiting for the disk. For what is read from
 * Kommo or from the inbox, and would be again: a power cut takes back the last few hundred milliseconds of such commits, in
 * their order, checkpoints and claims with the rows they belong to. What somebody was told of always waits.
 */
export const withoutWaiting = Prisma.raw(`set_config('synchronous_commit', 'off', true)`)
