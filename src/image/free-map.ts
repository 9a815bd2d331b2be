// Which blocks of a disk may read as anything, because a file system of the disk says that nothing is there. All are kept
// until somebody says so. One bit a block, whatever the pattern of free space.
import { type BlockRun, blockBytes, blockRunsMax, frameSizeBytes } from '../model/image.ts'

const blocksPerFrame = frameSizeBytes / blockBytes

/** A shorter gap between two runs is written too, as zeros: a write of its own costs a disk more. */
const gapBlocksMin = 16

/** Memory that the map of a disk takes: 128 MiB for the largest that can be published. */
export function freeMapBytes(sizeBytes: number): number {
  return Math.ceil(sizeBytes / frameSizeBytes) * (blocksPerFrame / 8)
}

export class FreeMap {
  readonly #sizeBytes: number
  readonly #bits: Uint8Array

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes
    this.#bits = new Uint8Array(freeMapBytes(sizeBytes))
  }

  /** The blocks that lie in these bytes whole may read as anything. */
  free(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#sizeBytes)
    // The last block of a disk may be shorter.
    const endBlock = end === this.#sizeBytes ? Math.ceil(end / blockBytes) : Math.floor(end / blockBytes)
    this.#set(Math.ceil(offset / blockBytes), endBlock, true)
  }

  /** Every block that these bytes touch is kept, whoever said otherwise. */
  keep(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#sizeBytes)
    if (end <= offset) return
    this.#set(Math.floor(offset / blockBytes), Math.ceil(end / blockBytes), false)
  }

  isFree(block: number): boolean {
    return (((this.#bits[block >> 3] ?? 0) >> (block & 7)) & 1) === 1
  }

  /** Makes zeros of the blocks that may read as anything in `raw`, which lies at `offset`, the beginning of a block. */
  clear(raw: Buffer, offset: number): void {
    for (let at = 0; at < raw.length; at += blockBytes) {
      if (this.isFree((offset + at) / blockBytes)) raw.subarray(at, at + blockBytes).fill(0)
    }
  }

  /** Bytes that may read as anything in a part of the disk that begins and ends with blocks. */
  freeBytes(offset = 0, length = this.#sizeBytes): number {
    let blocks = 0
    const end = Math.min(offset + length, this.#sizeBytes)
    for (let block = Math.floor(offset / blockBytes); block < end / blockBytes; block++) {
      // Eight at a time where they are alike.
      if ((block & 7) === 0 && (this.#bits[block >> 3] === 0 || this.#bits[block >> 3] === undefined)) block += 7
      else if (this.isFree(block)) blocks++
    }
    return Math.min(blocks * blockBytes, length)
  }

  /** The runs of blocks of a frame of `rawBytes` bytes that are kept, each as it is. */
  keptOf(frame: number, rawBytes: number): BlockRun[] {
    const kept: { from: number; count: number }[] = []
    for (let block = 0; block < Math.ceil(rawBytes / blockBytes); block++) {
      if (this.isFree(frame * blocksPerFrame + block)) continue
      const last = kept.at(-1)
      if (last && last.from + last.count === block) last.count++
      else kept.push({ from: block, count: 1 })
    }
    return kept.map(({ from, count }) => [from, count])
  }

  /**
   * The runs of blocks of a frame of `rawBytes` bytes that are to be written: none when all is free, undefined when nothing is.
   * At most `blockRunsMax`, the shortest gaps being filled up.
   */
  runsOf(frame: number, rawBytes: number): BlockRun[] | undefined {
    const blocks = Math.ceil(rawBytes / blockBytes)
    const kept = this.keptOf(frame, rawBytes).map(([from, count]) => ({ from, end: from + count }))
    if (kept.length === 1 && kept[0]?.from === 0 && kept[0].end === blocks) return undefined
    const gaps = kept.map((run, index) => ({ index, blocks: run.from - (kept[index - 1]?.end ?? 0) })).slice(1)
    const wide = gaps.filter((gap) => gap.blocks >= gapBlocksMin).sort((a, b) => b.blocks - a.blocks)
    const cuts = new Set(wide.slice(0, blockRunsMax - 1).map((gap) => gap.index))
    const runs: { from: number; end: number }[] = []
    for (const [index, run] of kept.entries()) {
      const last = runs.at(-1)
      if (last === undefined || cuts.has(index)) runs.push({ ...run })
      else last.end = run.end
    }
    return runs.map(({ from, end }) => [from, end - from])
  }

  #set(from: number, end: number, isFree: boolean): void {
    for (let block = from; block < end; ) {
      if ((block & 7) === 0 && end - block >= 8) {
        this.#bits.fill(isFree ? 0xff : 0, block >> 3, end >> 3)
        block = end & ~7
        // The shifts above are of 32 bits, and a disk has at most 2^30 blocks.
        continue
      }
      const byte = this.#bits[block >> 3] ?? 0
      this.#bits[block >> 3] = isFree ? byte | (1 << (block & 7)) : byte & ~(1 << (block & 7))
      block++
    }
  }
}
