/** Counts arrivals in any window of one length, exactly; remembers only those of the latest window. */
export interface SlidingWindow {
  /** Notes an arrival and tells how many there were in the window that ends with it, itself included. Times must not fall. */
  add(atMs: number): number
  /** How many there would be in the window that ends now, without a new arrival. */
  count(atMs: number): number
  /** The highest number that `add` ever told. */
  readonly peak: number
}

export function createSlidingWindow(lengthMs: number): SlidingWindow {
  const arrivals: number[] = []
  let first = 0
  let peak = 0

  /** Arrivals exactly one length apart are not in one window: N a second allows the next after a whole second. */
  function count(atMs: number): number {
    while (first < arrivals.length && atMs - (arrivals[first] ?? 0) >= lengthMs) first++
    if (first > 1_024 && first * 2 > arrivals.length) {
      arrivals.splice(0, first)
      first = 0
    }
    return arrivals.length - first
  }

  return {
    add(atMs) {
      arrivals.push(atMs)
      const inWindow = count(atMs)
      peak = Math.max(peak, inWindow)
      return inWindow
    },
    count,
    get peak() {
      return peak
    },
  }
}
