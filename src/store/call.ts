import { Prisma } from './generated/client.ts'

/**
 * How long after its first call a conversation is read: the webhooks of one send (several attachments are several
 * webhooks, documented) then share one read.
 */
export const SETTLE_MS = 250

/**
 * What a call for a sync does to a conversation `c` that is known, after `ON CONFLICT (id) DO UPDATE SET`: it counts,
 * wakes an idle conversation and revives a dead one, but cancels neither a back-off nor the pause between two reads.
 */
export const CALL = Prisma.raw(`
    requested = c.requested + excluded.requested,
    run_after = CASE
      WHEN c.dead_at IS NOT NULL THEN excluded.run_after
      WHEN c.requested = c.processed THEN GREATEST(c.run_after, excluded.run_after)
      ELSE c.run_after END,
    attempts = CASE WHEN c.dead_at IS NULL THEN c.attempts ELSE 0 END,
    dead_at = NULL,
    updated_at = now()`)
