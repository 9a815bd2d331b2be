// The frames of an image out of pieces, as the swarm and aria2 bring them. A piece is kept from its arrival until every
// frame in it is written, and longer where others still want it: that is the supply's own matter.
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { PieceGeometry, TransferEngine } from '../model/swarm.ts'
import type { PieceSupply } from '../swarm/piece-supply.ts'
import { createFrameAssembly, type FrameAssembly } from './frame-assembly.ts'
import type { ArrivedFrame, FrameSource, SourceCounts } from './frame-source.ts'
import { unlessAborted } from './lanes.ts'

export class PieceFrames implements FrameSource {
  readonly #supply: PieceSupply
  readonly #engine: TransferEngine
  readonly #manifest: Manifest
  readonly #assembly: FrameAssembly
  readonly #onClosed: (() => Promise<void>) | undefined

  constructor(
    supply: PieceSupply,
    options: {
      readonly engine: TransferEngine
      readonly manifest: Manifest
      readonly geometry: PieceGeometry
      /** As of the engine's work. */
      readonly isWanted?: ((number: number) => boolean) | undefined
      /** Closes what the supply stands on, after it. */
      readonly onClosed?: (() => Promise<void>) | undefined
    },
  ) {
    this.#supply = supply
    this.#engine = options.engine
    this.#manifest = options.manifest
    this.#assembly = createFrameAssembly(options.manifest, options.geometry, options.isWanted)
    this.#onClosed = options.onClosed
  }

  async *frames(signal: AbortSignal): AsyncGenerator<ArrivedFrame, void> {
    const pieces = this.#supply.pieces()[Symbol.asyncIterator]()
    for (;;) {
      const next = await unlessAborted(pieces.next(), signal)
      if (next.done) return
      const { whole, unneeded } = this.#assembly.arrived(next.value)
      this.#release(unneeded)
      for (const number of whole) yield { number, read: () => this.#read(number) }
    }
  }

  written(number: number): void {
    this.#release(this.#assembly.written(number))
  }

  counts(): SourceCounts {
    return { engine: this.#engine, ...this.#supply.progress() }
  }

  linger(options: { readonly maxMs: number; readonly signal: AbortSignal }): Promise<void> {
    return this.#supply.linger(options)
  }

  async close(): Promise<void> {
    try {
      await this.#supply.close()
    } finally {
      await this.#onClosed?.()
    }
  }

  async #read(number: number): Promise<Buffer> {
    const frame = this.#manifest.frames[number]
    if (frame === undefined) throw new Failure('internal', `frame ${number} of ${this.#manifest.frames.length}`)
    return this.#supply.read(frame.offset, frame.length)
  }

  #release(pieces: readonly number[]): void {
    for (const piece of pieces) this.#supply.release(piece)
  }
}
