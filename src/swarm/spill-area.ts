// Where pieces go that memory has no room for: a part of a file or block device, cut into slots of one piece each. It
// keeps nothing beyond the process and decides nothing; the store says which piece comes and goes.
import type { FileHandle } from 'node:fs/promises'

/** Bytes of a file or block device that are nobody else's. Offsets are multiples of 4096, counted from its beginning. */
export interface SpillArea {
  readonly sizeBytes: number
  /** Writes all of `bytes`; what follows up to the next 4096 bytes may become anything. */
  write(bytes: Buffer, at: number): Promise<void>
  /** Fills `into` with what was written there. */
  read(into: Buffer, at: number): Promise<void>
}

/** Slots begin where any disk's sectors do, so that the area can be written past the page cache. */
const slotAlignBytes = 4096

/** More writes at once bring a disk nothing, and each keeps a piece in memory. */
const writesMax = 4

/** The bytes `from` to `to` of an open file. */
export function spillAreaOfFile(handle: FileHandle, { from, to }: { from: number; to: number }): SpillArea {
  return {
    sizeBytes: to - from,
    write: async (bytes, at) => {
      for (let done = 0; done < bytes.length; ) {
        done += (await handle.write(bytes, done, bytes.length - done, from + at + done)).bytesWritten
      }
    },
    read: async (into, at) => {
      for (let done = 0; done < into.length; ) {
        const { bytesRead } = await handle.read(into, done, into.length - done, from + at + done)
        if (bytesRead === 0) throw new Error(`the spill area ends after ${at + done} of ${to - from} bytes`)
        done += bytesRead
      }
    },
  }
}

type Spilled = {
  readonly slot: number
  readonly bytes: number
  state: 'writing' | 'there' | 'gone'
  /** Reads under way: the slot is not given away under them. Several readers share one. */
  reading: Promise<Buffer> | undefined
}

/** The pieces in a spill area. After the first write that fails nothing more is written; what is there stays readable. */
export class SpilledPieces {
  /** Bytes of pieces that are there whole. */
  bytes = 0
  readonly #area: SpillArea
  readonly #slotBytes: number
  readonly #slotsMax: number
  readonly #onFailed: (error: Error) => void
  readonly #pieces = new Map<number, Spilled>()
  readonly #freeSlots: number[] = []
  readonly #underWay = new Set<Promise<unknown>>()
  /** Slots from here on were never used. */
  #freshSlot = 0
  #writes = 0
  #isBroken = false

  constructor(area: SpillArea, pieceBytes: number, onFailed: (error: Error) => void) {
    this.#area = area
    this.#slotBytes = Math.ceil(pieceBytes / slotAlignBytes) * slotAlignBytes
    this.#slotsMax = Math.floor(area.sizeBytes / this.#slotBytes)
    this.#onFailed = onFailed
  }

  /** How many more pieces there is room for. */
  get slotsFree(): number {
    return this.#isBroken ? 0 : this.#freeSlots.length + this.#slotsMax - this.#freshSlot
  }

  /** Whether one more write may begin now. */
  get mayWrite(): boolean {
    return this.#writes < writesMax && this.slotsFree > 0
  }

  has(piece: number): boolean {
    return this.#pieces.get(piece)?.state === 'there'
  }

  isWriting(piece: number): boolean {
    return this.#pieces.get(piece)?.state === 'writing'
  }

  [Symbol.iterator](): Iterator<number> {
    return this.#pieces.keys()
  }

  /** Writes a piece, if `mayWrite`; then calls `onEnd`, which finds it there or not. */
  write(piece: number, bytes: Buffer, onEnd: () => void): void {
    const slot = this.#freeSlots.pop() ?? this.#freshSlot++
    const spilled: Spilled = { slot, bytes: bytes.length, state: 'writing', reading: undefined }
    this.#pieces.set(piece, spilled)
    this.#writes += 1
    const end = (error: Error | undefined) => {
      this.#writes -= 1
      if (error === undefined) {
        spilled.state = 'there'
        this.bytes += spilled.bytes
      } else {
        // The slot is not used again: nothing is, from now on.
        this.#pieces.delete(piece)
        const isFirst = !this.#isBroken
        this.#isBroken = true
        if (isFirst) this.#onFailed(error)
      }
      onEnd()
    }
    const write = this.#area.write(bytes, slot * this.#slotBytes)
    this.#track(
      write.then(
        () => end(undefined),
        (cause: unknown) => end(new Error(`spill piece ${piece}, ${bytes.length} bytes`, { cause })),
      ),
    )
  }

  /** The bytes of a piece that it has. */
  read(piece: number): Promise<Buffer> {
    const spilled = this.#pieces.get(piece)
    if (spilled?.state !== 'there') return Promise.reject(new Error(`piece ${piece} is not in the spill area`))
    if (spilled.reading !== undefined) return spilled.reading
    const into = Buffer.allocUnsafeSlow(spilled.bytes)
    const reading = this.#area
      .read(into, spilled.slot * this.#slotBytes)
      .then(() => into)
      .finally(() => {
        spilled.reading = undefined
        if (spilled.state === 'gone') this.#freeSlots.push(spilled.slot)
      })
    spilled.reading = reading
    this.#track(reading)
    return reading
  }

  /** Forgets a piece that it has. Reads under way still end well. */
  drop(piece: number): void {
    const spilled = this.#pieces.get(piece)
    if (spilled?.state !== 'there') return
    this.#pieces.delete(piece)
    spilled.state = 'gone'
    this.bytes -= spilled.bytes
    if (spilled.reading === undefined) this.#freeSlots.push(spilled.slot)
  }

  /** Resolves when no read and no write is under way: then the area may be closed. */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay)
  }

  #track(work: Promise<unknown>): void {
    this.#underWay.add(work)
    const end = () => this.#underWay.delete(work)
    work.then(end, end)
  }
}
