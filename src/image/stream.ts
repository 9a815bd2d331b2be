// A stream of bytes that somebody else gives: its first bytes without taking them, its count, and its end when it hangs.
import { Failure } from '../model/failure.ts'

/** Bytes by which everything is recognised. */
const headBytes = 512

/** Looks at the first bytes of a stream without taking them from it. Must be closed. */
export class StreamReader {
  readonly #chunks: AsyncIterator<Buffer, void, void>
  #head: Buffer | undefined

  constructor(chunks: AsyncGenerator<Buffer, void, void>) {
    this.#chunks = chunks
  }

  /** The first `headBytes` bytes, or all of a shorter stream, or a few more. */
  async head(): Promise<Buffer> {
    if (this.#head !== undefined) return this.#head
    const parts: Buffer[] = []
    for (let length = 0; length < headBytes; ) {
      const { value, done } = await this.#chunks.next()
      if (done || value === undefined) break
      parts.push(value)
      length += value.length
    }
    this.#head = Buffer.concat(parts)
    return this.#head
  }

  /** The whole stream, its head included. Only once. */
  async *all(): AsyncGenerator<Buffer, void, void> {
    const head = await this.head()
    if (head.length > 0) yield head
    for (;;) {
      const { value, done } = await this.#chunks.next()
      if (done || value === undefined) return
      yield value
    }
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }
}

/**
 * The source's chunks, counted. Ends with the signal's reason at once when it is aborted, though the source may hang;
 * an error of the source becomes Failure `image-broken` unless it is a Failure.
 */
export async function* counted(
  chunks: AsyncIterable<Buffer>,
  onRead: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  const iterator = chunks[Symbol.asyncIterator]()
  let total = 0
  try {
    for (;;) {
      const { value, done } = await nextUnlessAborted(iterator, signal)
      if (done) return
      total += value.length
      onRead(total)
      yield value
    }
  } catch (cause) {
    if (signal.aborted || cause instanceof Failure) throw cause
    throw new Failure('image-broken', `the image source broke off after ${total} bytes`, { cause })
  } finally {
    // Not awaited: a source that hangs in `next` answers `return` never.
    void Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

function nextUnlessAborted<T>(iterator: AsyncIterator<T>, signal: AbortSignal): Promise<IteratorResult<T>> {
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    // A race of promises would keep a reaction on the abort for every chunk of a terabyte.
    iterator
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', onAbort))
  })
}
