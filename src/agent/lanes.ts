// Several things at once on one disk: the first failure stops the others, and nobody goes on before all have stopped,
// because a write still in flight must not meet a closed or reused disk.

/**
 * Runs `tasks` together and waits for all of them. When one fails, or `signal` aborts, the signal that each was given
 * aborts; the first failure is thrown after the last task has ended.
 */
export async function together(
  signal: AbortSignal,
  tasks: readonly ((signal: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  const failures: unknown[] = []
  await Promise.all(
    tasks.map(async (task) => {
      try {
        either.throwIfAborted()
        await task(either)
      } catch (error) {
        failures.push(error)
        stop.abort(error)
      }
    }),
  )
  if (failures.length > 0) throw failures[0]
}

/** Tasks, one a lane, that take the next of `items` as each becomes free; `work` learns the number of its lane. */
export function lanesOver<T>(
  count: number,
  items: Iterable<T>,
  work: (item: T, lane: number, signal: AbortSignal) => Promise<void>,
): ((signal: AbortSignal) => Promise<void>)[] {
  const queue = Iterator.from(items)
  return Array.from({ length: count }, (_, lane) => async (signal) => {
    for (let next = queue.next(); !next.done; next = queue.next()) {
      signal.throwIfAborted()
      await work(next.value, lane, signal)
    }
  })
}
