import type { Walk } from '../domain/conversation.ts'

/** Pages overlap by one record: if the one that must repeat does not, something was deleted in between. */
const OVERLAP = 1

/** Deletions that push this many pages out of step are beyond repair by stepping back: begin at the head again. */
const MAX_STEPS_BACK = 3

export interface Page {
  /** Keys of the records, in Kommo's order: newest first (inferred; no sentence of the documentation promises it). */
  keys: readonly string[]
  /** As many records as were asked for: there may be more. */
  full: boolean
  /** The oldest record was seen by a completed walk: everything older is stored. */
  reachesKnown: boolean
}

export type WalkStep =
  /** `reachedEnd`: at the oldest message, and not at one that an earlier walk proves the rest of. */
  | { kind: 'finished'; reachedEnd: boolean }
  | { kind: 'next'; offset: number; tail: readonly string[] }
  | { kind: 'stepBack'; offset: number; tail: readonly string[] }

/**
 * Decides where a walk goes after a page. Offset paging over a list that grows at its head: a new message repeats a
 * record (harmless), a deleted one would skip a record. So a page counts only if it repeats a record of the page
 * before; if it does not, the walk steps back until it does, or begins again.
 *
 * @param stepsBack how often the walk has stepped back in a row
 */
export function walkStep(walk: Walk, page: Page, pageSize: number, stepsBack: number): WalkStep {
  const atHead = walk.offset === 0
  const connects = atHead || page.keys.some((key) => walk.tail.includes(key))
  if (!connects) {
    const offset = stepsBack < MAX_STEPS_BACK ? Math.max(0, walk.offset - (pageSize - OVERLAP)) : 0
    return { kind: 'stepBack', offset, tail: walk.tail }
  }
  if (!page.full) return { kind: 'finished', reachedEnd: true }
  if (page.reachesKnown && !walk.full) return { kind: 'finished', reachedEnd: false }
  return { kind: 'next', offset: walk.offset + pageSize - OVERLAP, tail: page.keys }
}
