// Waiting for the work of a loop that has been told to end.
import { setTimeout as delay } from 'node:timers/promises'
import type { LimitFunction } from 'p-limit'

/** Resolves when nothing is under way, or after `graceMs`. */
export async function idle(limit: LimitFunction, graceMs = Number.POSITIVE_INFINITY): Promise<void> {
  const end = performance.now() + graceMs
  while (limit.activeCount + limit.pendingCount > 0 && performance.now() < end) await delay(10)
}
