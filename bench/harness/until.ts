import { setTimeout as sleep } from 'node:timers/promises'

/** Looks again and again until the condition holds. @throws when it never does */
export async function until(
  holds: () => Promise<boolean>,
  { everyMs = 20, mostMs = 900_000 }: { everyMs?: number; mostMs?: number } = {},
): Promise<void> {
  const deadline = performance.now() + mostMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`it did not come to pass within ${mostMs} ms`)
    await sleep(everyMs)
  }
}
