/** A conversation that this worker has claimed: the job in hand. */
export interface ClaimedConversation {
  id: string
  scopeId: string
  /** Fences out a worker whose lease ran out: every write of the job names it. */
  claimId: string
  /** Calls for a sync at the moment of the claim. */
  requested: bigint
  attempts: number
  /** Every open call came from a webhook whose message a completed walk has seen: there is nothing new to read. */
  answered: boolean
  /** No open call came from a webhook: what is found new, no webhook told of. */
  unannounced: boolean
  walk: Walk
}

/** How far the walk through a conversation's history has got; survives the process. */
export interface Walk {
  /** Number of this walk, from 1. A message seen first in a lower one is proof that all older ones are stored. */
  number: number
  /** Value of `requested` when the walk began at the head: what completing it answers. */
  requested: bigint
  /** Whether it must go to the oldest message even where everything is known. */
  full: boolean
  /** Records to skip from the newest one. */
  offset: number
  /** The last stored page as record keys: the next page must repeat at least one of them. */
  tail: readonly string[]
}
