// Waiting for the work of a loop that has been told to end.
import { setTimeout as delay } from 'node:timers/promises'

/** Resolves when `count` says that nothing is under way, or after `graceMs`. */
export async function idle(count: () => number, graceMs = Number.POSITIVE_INFINITY): Promise<void> {
  const end = performance.now() + graceMs
  while (count() > 0 && performance.now() < end) await delay(10)
}
