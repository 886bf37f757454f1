import type { PostResult } from './post-once.ts'

export interface Delivery extends PostResult {
  scopeId: string
  /** With the scope id filled in. */
  address: string
  at: Date
}
