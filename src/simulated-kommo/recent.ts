/** The latest `capacity` things, in bounded memory. */
export interface Recent<T> {
  add(thing: T): void
  /** Oldest first. */
  list(): T[]
  clear(): void
}

export function createRecent<T>(capacity: number): Recent<T> {
  let things: T[] = []
  let next = 0
  return {
    add(thing) {
      things[next] = thing
      next = (next + 1) % capacity
    },
    list: () => (things.length < capacity ? [...things] : [...things.slice(next), ...things.slice(0, next)]),
    clear() {
      things = []
      next = 0
    },
  }
}
