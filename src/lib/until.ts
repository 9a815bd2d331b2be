// Waiting for a fact, within a bound. The one way that tests, tools and the lab wait: never a guessed number of seconds.
import { setTimeout as delay } from 'node:timers/promises'

/**
 * Asks `probe` until it gives a value other than undefined, null or false, and returns that value.
 * Throws after `timeoutMs` with `what` and the last error of `probe`, if it threw, as cause.
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | null | false> | T | undefined | null | false,
  options: { timeoutMs: number; everyMs?: number; signal?: AbortSignal },
): Promise<T> {
  const end = performance.now() + options.timeoutMs
  let cause: unknown
  for (;;) {
    options.signal?.throwIfAborted()
    try {
      const value = await probe()
      if (value !== undefined && value !== null && value !== false) return value
      cause = undefined
    } catch (error) {
      cause = error
    }
    if (performance.now() >= end) {
      throw new Error(`waited ${options.timeoutMs} ms for ${what}`, cause === undefined ? undefined : { cause })
    }
    await delay(options.everyMs ?? 100, undefined, options.signal ? { signal: options.signal } : undefined)
  }
}
