import { countSentUpTo, generateMessage, indexOfMessage, type Plot } from './generate-message.ts'
import type { Content, SimulatedMessage } from './message.ts'

/**
 * The messages of one conversation in the order of their time. Generated ones are made when asked for; what was added,
 * edited and removed lies over them, so a million generated messages cost no memory.
 */
export interface Timeline {
  readonly size: number
  /** The existing message at this place, 0 being the oldest; `undefined` outside. */
  at(rank: number): SimulatedMessage | undefined
  byId(id: string): SimulatedMessage | undefined
  insert(message: SimulatedMessage): void
  /** False when there is no such message. */
  edit(id: string, change: Partial<Content>): boolean
  remove(id: string): boolean
}

interface Added {
  message: SimulatedMessage
  /** How many generated messages are older. */
  generatedBefore: number
}

export function createTimeline(plot: Plot): Timeline {
  const added: Added[] = []
  const addedById = new Map<string, Added>()
  const removed: number[] = []
  const edits = new Map<number, Partial<Content>>()

  function generatedAt(index: number): SimulatedMessage {
    const message = generateMessage(plot, index)
    const change = edits.get(index)
    return change === undefined ? message : { ...message, ...change }
  }

  function isRemoved(index: number): boolean {
    return removed.length > 0 && removed[countBelow(removed, index)] === index
  }

  /** Where the added message number `place` stands among all that exist. */
  function rankOfAdded(place: number): number {
    const generatedBefore = added[place]?.generatedBefore ?? plot.count
    return place + generatedBefore - countBelow(removed, generatedBefore)
  }

  /** The generated index that has `rank` existing generated messages before it. */
  function generatedIndex(rank: number): number {
    if (removed.length === 0) return rank
    const removedBefore = firstPlace(removed.length, (place) => (removed[place] ?? 0) - place > rank)
    return rank + removedBefore
  }

  /** An index among the generated ones that exists, or `undefined`. */
  function findGenerated(id: string): number | undefined {
    const index = indexOfMessage(plot, id)
    return index === undefined || isRemoved(index) ? undefined : index
  }

  return {
    get size() {
      return plot.count - removed.length + added.length
    },
    at(rank) {
      if (rank < 0 || rank >= this.size) return undefined
      const place = firstPlace(added.length, (candidate) => rankOfAdded(candidate) >= rank)
      const candidate = added[place]
      if (candidate !== undefined && rankOfAdded(place) === rank) return candidate.message
      return generatedAt(generatedIndex(rank - place))
    },
    byId(id) {
      const found = addedById.get(id)
      if (found !== undefined) return found.message
      const index = findGenerated(id)
      return index === undefined ? undefined : generatedAt(index)
    },
    insert(message) {
      const entry = { message, generatedBefore: countSentUpTo(plot, message.sentAtMs) }
      const place = firstPlace(
        added.length,
        (other) => (added[other]?.message.sentAtMs ?? 0) > message.sentAtMs,
      )
      added.splice(place, 0, entry)
      addedById.set(message.id, entry)
    },
    edit(id, change) {
      const found = addedById.get(id)
      if (found !== undefined) {
        found.message = { ...found.message, ...change }
        return true
      }
      const index = findGenerated(id)
      if (index === undefined) return false
      edits.set(index, { ...edits.get(index), ...change })
      return true
    },
    remove(id) {
      const found = addedById.get(id)
      if (found !== undefined) {
        addedById.delete(id)
        added.splice(added.indexOf(found), 1)
        return true
      }
      const index = findGenerated(id)
      if (index === undefined) return false
      removed.splice(countBelow(removed, index), 0, index)
      edits.delete(index)
      return true
    },
  }
}

/** How many numbers of a rising list are below `limit`. */
function countBelow(rising: readonly number[], limit: number): number {
  return firstPlace(rising.length, (place) => (rising[place] ?? limit) >= limit)
}

/** The first of `length` places where a condition holds that stays true from there on; `length` if none. */
function firstPlace(length: number, holds: (place: number) => boolean): number {
  let low = 0
  let high = length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (holds(middle)) high = middle
    else low = middle + 1
  }
  return low
}
