// One file system's place on a disk as the readers of file systems (free-*.ts) see it: bytes to read, within bounds, and a
// way to say what is free. A reader that meets anything it does not understand throws Unclear, and then all is kept.
import type { FreeMap } from './free-map.ts'

/** Bytes that can be read at any place. */
export interface Content {
  readonly sizeBytes: number
  /** Gives exactly `length` bytes. Throws Failure `image-broken` when they are not there. */
  read(offset: number, length: number): Promise<Buffer>
  /** Closing again does nothing. */
  close(): Promise<void>
}

/** The reason why a file system's word on its free space cannot be taken. */
export class Unclear extends Error {}

/** How a reader of one kind of file system looks to free-space.ts. */
export type FileSystem = {
  readonly name: string
  /** True when `head` (`headBytes`, or all of a smaller volume) has the file system's magic. */
  readonly isIn: (head: Buffer) => boolean
  /** Says what is free. Throws Unclear, in the middle too: then nothing that it said counts. */
  readonly markFree: (volume: Volume, head: Buffer) => Promise<void>
}

/** So much of a volume tells what it is: the last magic looked for, btrfs's, lies at 64 KiB. */
export const headBytes = 128 * 1024

/** No structure that is read at once is larger. */
const readBytesMax = 16 * 1024 * 1024

/**
 * All that may be read of one disk to learn what is free: the bitmaps of 4 TiB in the smallest blocks have 1 GiB, a journal up
 * to 2 GiB.
 */
const metadataBytesMax = 4 * 1024 ** 3

/** Bytes of metadata that may still be read, shared by all volumes of a disk. */
export class ReadBudget {
  #bytes = metadataBytesMax

  take(bytes: number): void {
    this.#bytes -= bytes
    if (this.#bytes < 0) throw new Unclear(`it has more than ${metadataBytesMax} bytes of metadata`)
  }
}

export class Volume {
  readonly #disk: Content
  readonly #map: FreeMap
  readonly #budget: ReadBudget
  readonly #signal: AbortSignal
  readonly offset: number
  readonly sizeBytes: number

  constructor(
    place: { readonly offset: number; readonly sizeBytes: number },
    world: { readonly disk: Content; readonly map: FreeMap; readonly budget: ReadBudget; readonly signal: AbortSignal },
  ) {
    this.offset = place.offset
    this.sizeBytes = place.sizeBytes
    this.#disk = world.disk
    this.#map = world.map
    this.#budget = world.budget
    this.#signal = world.signal
  }

  /** Throws Unclear for what does not lie in the volume. */
  async read(offset: number, length: number): Promise<Buffer> {
    this.#signal.throwIfAborted()
    const isSound = Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && length <= readBytesMax
    if (!isSound || offset + length > this.sizeBytes) {
      throw new Unclear(`it points to ${length} bytes at ${offset}, of ${this.sizeBytes}`)
    }
    this.#budget.take(length)
    return await this.#disk.read(this.offset + offset, length)
  }

  free(offset: number, length: number): void {
    if (offset < 0 || length < 0 || offset + length > this.sizeBytes) {
      throw new Unclear(`it calls ${length} bytes at ${offset} free, of ${this.sizeBytes}`)
    }
    this.#map.free(this.offset + offset, length)
  }

  keep(offset: number, length: number): void {
    const from = Math.min(Math.max(offset, 0), this.sizeBytes)
    this.#map.keep(this.offset + from, Math.max(0, Math.min(offset + length, this.sizeBytes) - from))
  }
}

/** A number of 64 bits. Throws Unclear where it is beyond 2^53, as nothing on a disk that can be published is. */
export function u64le(bytes: Buffer, at: number): number {
  return safe(bytes.readBigUInt64LE(at))
}

export function u64be(bytes: Buffer, at: number): number {
  return safe(bytes.readBigUInt64BE(at))
}

function safe(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new Unclear(`it has the number ${value} where a place or size belongs`)
  return Number(value)
}

/** Runs of zero bits among the first `bits` of a bitmap whose lowest bit comes first. Gives how many zeros there are. */
export function eachZeroRun(bitmap: Buffer, bits: number, run: (first: number, count: number) => void): number {
  let zeros = 0
  let from = -1
  for (let bit = 0; bit < bits; ) {
    const byte = bitmap[bit >> 3] ?? 0xff
    const isWholeByte = (bit & 7) === 0 && bits - bit >= 8
    const isZero = ((byte >> (bit & 7)) & 1) === 0
    if (isZero && from < 0) from = bit
    if (!isZero && from >= 0) {
      run(from, bit - from)
      zeros += bit - from
      from = -1
    }
    bit += isWholeByte && (byte === 0 || byte === 0xff) ? 8 : 1
  }
  if (from < 0) return zeros
  run(from, bits - from)
  return zeros + bits - from
}
