const used = new Map<string, number>()

/**
 * The seed itself for the first use, another one for each use after it: a test that is tried again makes conversations of its
 * own beside those that its first try has left in the simulated Kommo, which refuses the same one twice.
 */
export function freshSeed(seed: string): string {
  const times = (used.get(seed) ?? 0) + 1
  used.set(seed, times)
  return times === 1 ? seed : `${seed}, use ${times}`
}
