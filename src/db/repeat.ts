// Doing again what the database gave up for another's sake, or could not be asked: the one home of such retries.
import { setTimeout as delay } from 'node:timers/promises'
import { isConflict, isElsewhere, isLost, isUnknownOutcome } from './errors.ts'

/** The longest pause between two tries. Each is a random part of it, so that those who collided do not meet again. */
const pauseMaxMs = 200

/**
 * Does `work` again while it fails with a conflict or for want of a connection, until `withinMs` have passed; then it
 * fails with what it failed with last. `work` must change nothing but the database, and must be whole: a statement alone,
 * or a transaction.
 */
export async function repeated<T>(work: () => Promise<T>, withinMs: number): Promise<T> {
  const end = performance.now() + withinMs
  for (let tries = 1; ; tries += 1) {
    try {
      return await work()
    } catch (error) {
      const canRepeat = !isUnknownOutcome(error) && (isConflict(error) || isLost(error) || isElsewhere(error))
      const pauseMs = Math.random() * Math.min(pauseMaxMs, 10 * 2 ** tries)
      if (!canRepeat || performance.now() + pauseMs > end) throw error
      await delay(pauseMs)
    }
  }
}
