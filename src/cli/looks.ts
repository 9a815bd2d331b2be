// Looking at something again and again while it goes on: the service may be away for a while, as when it is restarted.
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../model/failure.ts'

/** How long a service that does not answer is waited for: it may be restarting, and the rollout goes on. */
const absenceMsMax = 120_000

/** What `ask` answers, every so often, until the caller has seen enough. `onAbsence` is told when nobody answered. */
export async function* looks<T>(
  ask: () => Promise<T>,
  { everyMs, onAbsence }: { readonly everyMs: number; readonly onAbsence: () => void },
): AsyncGenerator<T, never> {
  let heardAt = Date.now()
  for (;;) {
    let answer: T | undefined
    try {
      answer = await ask()
      heardAt = Date.now()
    } catch (error) {
      const isAbsent = error instanceof Failure && error.code === 'service-unreachable'
      if (!isAbsent || Date.now() - heardAt > absenceMsMax) throw error
      onAbsence()
    }
    if (answer !== undefined) yield answer
    await delay(everyMs)
  }
}
