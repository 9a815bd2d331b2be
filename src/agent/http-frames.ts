// The plain engine: frames by HTTP ranges from the origin, several requests at once. Also what the other engines fall back
// to, for the frames that they did not bring.
import { frameStoredBytesMax } from '../image/frames.ts'
import type { Manifest } from '../model/image.ts'
import type { ArrivedFrame, FrameSource, SourceCounts } from './frame-source.ts'
import { Arrivals, lanesOver, together, unlessAborted } from './lanes.ts'
import type { Origin } from './origin.ts'
import { type Batch, planBatches } from './plan.ts'
import { countsOfOrigin } from './source-counts.ts'

/** One request asks for so much at most, beyond a single frame; so few frames that a lost one is little work lost. */
const batchLimits = { batchBytesMax: frameStoredBytesMax, batchFramesMax: 8 }

export type HttpFramesOptions = {
  readonly origin: Origin
  readonly imageUrl: string
  readonly manifest: Manifest
  /** Requests in flight; each holds its batch in memory until that is written. */
  readonly connections: number
  /** Which data frames to bring; all of them unless given. */
  readonly isWanted?: (number: number) => boolean
}

export class HttpFrames implements FrameSource {
  readonly #options: HttpFramesOptions
  /** Frames that were handed over and are not written; what to do when they are. */
  readonly #unwritten = new Map<number, () => void>()
  #receivedBytes = 0
  #verifiedBytes = 0

  constructor(options: HttpFramesOptions) {
    this.#options = options
  }

  async *frames(signal: AbortSignal): AsyncGenerator<ArrivedFrame, void> {
    const { manifest, connections, isWanted } = this.#options
    const batches = planBatches(manifest, batchLimits, isWanted)
    const buffers = Array.from({ length: connections }, () => Buffer.alloc(frameStoredBytesMax))
    // Never more than a batch of every connection: it goes on when its own is written.
    const arrivals = new Arrivals<ArrivedFrame>()
    const bring = async (batch: Batch, lane: number, signal: AbortSignal) => {
      const buffer = buffers[lane]
      if (buffer === undefined) throw new Error(`no buffer for connection ${lane}`)
      await this.#bring(batch, buffer.subarray(0, batch.length), arrivals, signal)
    }
    const stop = new AbortController()
    const bringing = together(AbortSignal.any([signal, stop.signal]), lanesOver(connections, batches, bring)).then(
      () => arrivals.end(),
      (error: unknown) => arrivals.end({ error }),
    )
    try {
      yield* arrivals.take()
    } finally {
      stop.abort()
      await bringing
    }
  }

  written(number: number): void {
    const frame = this.#options.manifest.frames[number]
    this.#verifiedBytes += frame?.length ?? 0
    this.#options.origin.progressed()
    this.#unwritten.get(number)?.()
    this.#unwritten.delete(number)
  }

  counts(): SourceCounts {
    return { ...countsOfOrigin(this.#receivedBytes), engine: 'http', verifiedBytes: this.#verifiedBytes }
  }

  /** Nobody gains from a host that only asks the origin. */
  async linger(): Promise<void> {}

  /** What `frames` began ends with it; the origin is its owner's. */
  async close(): Promise<void> {}

  /** Fetches one batch and hands its frames over; resolves when all are written. */
  async #bring(batch: Batch, bytes: Buffer, arrivals: Arrivals<ArrivedFrame>, signal: AbortSignal): Promise<void> {
    const { origin, imageUrl, manifest } = this.#options
    await origin.fetchRange(imageUrl, batch.offset, manifest.storedBytes, bytes, signal)
    this.#receivedBytes += bytes.length
    const written: Promise<void>[] = []
    let at = 0
    for (const number of batch.frames) {
      const length = manifest.frames[number]?.length ?? 0
      const stored = bytes.subarray(at, at + length)
      at += length
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#unwritten.set(number, resolve)
      written.push(promise)
      arrivals.put({ number, read: () => Promise.resolve(stored) })
    }
    await unlessAborted(Promise.all(written), signal)
  }
}
