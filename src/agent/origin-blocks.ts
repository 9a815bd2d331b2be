// Single blocks of frames that the place holds but for a few: their sums and bytes, asked of the origin. Whatever goes wrong here
// costs bytes and nothing else, because every frame can be fetched whole.
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { type BlockSet, blockSums, bytesOf, differingBlocks, formatBlockSet, putBlocks } from '../image/blocks.ts'
import { rawBytesOf, sha256Of } from '../image/frames.ts'
import { frameSizeBytes, type Manifest } from '../model/image.ts'
import type { Log } from './log.ts'
import type { Origin } from './origin.ts'

const decompress = promisify(zstdDecompress)

/** A frame of which more differs comes whole: packed with all its content it is shorter, and others can pass it on. */
const partMax = 0.5
/** After so many failures it is not asked any more. */
const failuresMax = 3
/** Sums of a frame; blocks packed, which may not become shorter by it. */
const answerBytesMax = frameSizeBytes + 64 * 1024

export class OriginBlocks {
  /** What came, in bytes. */
  receivedBytes = 0
  readonly #origin: Origin
  readonly #framesUrl: string
  readonly #manifest: Manifest
  readonly #log: Log
  #failures = 0

  constructor(options: {
    readonly origin: Origin
    readonly framesUrl: string
    readonly manifest: Manifest
    readonly log: Log
  }) {
    this.#origin = options.origin
    this.#framesUrl = options.framesUrl
    this.#manifest = options.manifest
    this.#log = options.log
  }

  /**
   * The blocks of a data frame that `there`, the frame as the place holds it, lacks; undefined when the frame had better come whole,
   * or nobody tells.
   */
  async missing(number: number, there: Buffer, signal: AbortSignal): Promise<BlockSet | undefined> {
    return this.#ask(`the sums of frame ${number}`, signal, async () => {
      const sums = await this.#fetch(`${number}/sums`, signal)
      const set = differingBlocks(blockSums(there), sums)
      const part = bytesOf(set, there.length) / there.length
      return part > 0 && part <= partMax ? set : undefined
    })
  }

  /**
   * Turns `raw`, the frame as the place holds it, into what the manifest says, by the blocks of `set`. False when that did not
   * succeed; `raw` is then neither.
   */
  async mend(number: number, raw: Buffer, set: BlockSet, signal: AbortSignal): Promise<boolean> {
    const isMended = await this.#ask(`blocks of frame ${number}`, signal, async () => {
      const packed = await this.#fetch(`${number}/blocks?of=${formatBlockSet(set)}`, signal)
      const maxOutputLength = bytesOf(set, raw.length)
      putBlocks(raw, set, await decompress(packed, { maxOutputLength, rejectGarbageAfterEnd: true }))
      const frame = this.#manifest.frames[number]
      if (frame?.class !== 'data' || raw.length !== rawBytesOf(this.#manifest, number)) return false
      if ((await sha256Of(raw)) === frame.rawSha256) return true
      throw new Error(`frame ${number} with its blocks is not what the manifest says`)
    })
    return isMended ?? false
  }

  async #fetch(path: string, signal: AbortSignal): Promise<Buffer> {
    const bytes = await this.#origin.fetchOnce(`${this.#framesUrl}/${path}`, answerBytesMax, signal)
    this.receivedBytes += bytes.length
    return bytes
  }

  async #ask<T>(what: string, signal: AbortSignal, ask: () => Promise<T>): Promise<T | undefined> {
    if (this.#failures >= failuresMax) return undefined
    try {
      return await ask()
    } catch (error) {
      signal.throwIfAborted()
      this.#failures += 1
      this.#log.failure(`${what}: the frame comes whole`, error)
      return undefined
    }
  }
}
