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

/**
 * As `lanesOver`, over items that arrive one by one. `open` is called once, with the signal that the tasks share, which must
 * end what it gives; the last lane to end closes that.
 */
export function lanesOverArrivals<T>(
  count: number,
  open: (signal: AbortSignal) => AsyncIterable<T>,
  work: (item: T, lane: number, signal: AbortSignal) => Promise<void>,
): ((signal: AbortSignal) => Promise<void>)[] {
  let arrivals: AsyncIterator<T> | undefined
  let running = count
  return Array.from({ length: count }, (_, lane) => async (signal) => {
    arrivals ??= open(signal)[Symbol.asyncIterator]()
    try {
      for (let next = await arrivals.next(); !next.done; next = await arrivals.next()) {
        signal.throwIfAborted()
        await work(next.value, lane, signal)
      }
    } finally {
      running -= 1
      // Not sooner: it would wait for what the other lanes are waiting for, and this lane's failure with it.
      if (running === 0) await arrivals.return?.()
    }
  })
}

/** Things on their way from who brings them to who takes them. Who puts them in says how many there may be. */
export class Arrivals<T> {
  readonly #waiting: T[] = []
  #ended: { readonly error?: unknown } | undefined
  #wake = Promise.withResolvers<void>()

  put(item: T): void {
    this.#waiting.push(item)
    this.#wake.resolve()
  }

  /** No more will come: `take` ends after what is waiting, or throws `error` at once. The first end counts. */
  end(failure: { readonly error?: unknown } = {}): void {
    this.#ended ??= failure
    this.#wake.resolve()
  }

  async *take(): AsyncGenerator<T, void> {
    for (;;) {
      if (this.#ended !== undefined && 'error' in this.#ended) throw this.#ended.error
      const next = this.#waiting.shift()
      if (next !== undefined) yield next
      else if (this.#ended !== undefined) return
      else {
        this.#wake = Promise.withResolvers()
        await this.#wake.promise
      }
    }
  }
}

/** Waits for `promise`, but no longer than until `signal` aborts: then throws its reason. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
