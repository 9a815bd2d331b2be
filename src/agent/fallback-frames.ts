// An engine that may fail, and the plain one behind it. Whatever keeps the first from starting or going on is said, and the
// second brings the frames that are still missing: nothing is brought twice.
import type { TransferEngine } from '../model/swarm.ts'
import type { ArrivedFrame, FrameSource, SourceCounts } from './frame-source.ts'
import { addCounts, noCounts } from './source-counts.ts'

export type FallbackOptions = {
  readonly engine: TransferEngine
  /** Starts the engine that was asked for. Rejects when it cannot start. */
  readonly first: (signal: AbortSignal) => Promise<FrameSource>
  /** What brings the wanted frames when the first cannot. */
  readonly second: (isWanted: (number: number) => boolean) => FrameSource
  /** Told once, with the reason; waited for before the second begins. */
  readonly onFellBack: (reason: unknown) => Promise<void>
}

export class FallbackFrames implements FrameSource {
  readonly #options: FallbackOptions
  readonly #ofFirst = new Set<number>()
  #first: FrameSource | undefined
  #second: FrameSource | undefined

  constructor(options: FallbackOptions) {
    this.#options = options
  }

  async *frames(signal: AbortSignal): AsyncGenerator<ArrivedFrame, void> {
    try {
      this.#first = await this.#options.first(signal)
      for await (const frame of this.#first.frames(signal)) {
        this.#ofFirst.add(frame.number)
        yield frame
      }
      return
    } catch (error) {
      signal.throwIfAborted()
      await this.#options.onFellBack(error)
      // Frames that it handed over and that cannot be read any more are fetched by who wants to read them.
      await this.#first?.close()
    }
    this.#second = this.#options.second((number) => !this.#ofFirst.has(number))
    yield* this.#second.frames(signal)
  }

  written(number: number): void {
    if (this.#ofFirst.has(number)) this.#first?.written(number)
    else this.#second?.written(number)
  }

  counts(): SourceCounts {
    const { engine } = this.#options
    const [first, second] = [this.#first?.counts() ?? { ...noCounts, engine }, this.#second?.counts()]
    return second === undefined ? first : { ...addCounts(first, second), engine: second.engine }
  }

  async linger(options: { readonly maxMs: number; readonly signal: AbortSignal }): Promise<void> {
    await (this.#second ?? this.#first)?.linger(options)
  }

  async close(): Promise<void> {
    await Promise.all([this.#first?.close(), this.#second?.close()])
  }
}
