// Single blocks of a frame: which of them differ from what somebody holds, told by a sum each, and the bytes of those alone. What
// is put together so is checked as a whole, by the frame's SHA-256; a sum only has to be right nearly always. Pure.
import { crc32 } from 'node:zlib'
import { blockBytes, frameSizeBytes } from '../model/image.ts'

const sumBytes = 4
const blocksPerFrame = frameSizeBytes / blockBytes

/** Which blocks of a frame are meant: a bit each, the first of a byte is its highest. */
export type BlockSet = Buffer

/** CRC-32 of each block of a frame, four bytes each, least significant first. The last block may be shorter. */
export function blockSums(raw: Buffer): Buffer {
  const sums = Buffer.alloc(Math.ceil(raw.length / blockBytes) * sumBytes)
  for (let block = 0; block * sumBytes < sums.length; block++) {
    const at = block * blockBytes
    sums.writeUInt32LE(crc32(raw.subarray(at, at + blockBytes)), block * sumBytes)
  }
  return sums
}

/** The blocks whose sums are not the same. Throws when one is of another number of blocks. */
export function differingBlocks(sums: Buffer, others: Buffer): BlockSet {
  if (sums.length !== others.length) throw new Error(`${others.length} bytes of sums for ${sums.length}`)
  const set = Buffer.alloc(Math.ceil(sums.length / sumBytes / 8))
  for (let at = 0; at < sums.length; at += sumBytes) {
    if (sums.readUInt32LE(at) === others.readUInt32LE(at)) continue
    const block = at / sumBytes
    set[block >> 3] = (set[block >> 3] ?? 0) | (0x80 >> (block & 7))
  }
  return set
}

/** The places of the blocks of a set in a frame of `rawBytes`, in order, runs joined. */
export function rangesOf(set: BlockSet, rawBytes: number): { offset: number; length: number }[] {
  const ranges: { offset: number; length: number }[] = []
  for (let block = 0; block * blockBytes < rawBytes; block++) {
    if (((set[block >> 3] ?? 0) & (0x80 >> (block & 7))) === 0) continue
    const offset = block * blockBytes
    const length = Math.min(blockBytes, rawBytes - offset)
    const last = ranges.at(-1)
    if (last !== undefined && last.offset + last.length === offset) last.length += length
    else ranges.push({ offset, length })
  }
  return ranges
}

/** How many bytes of a frame the set has. */
export function bytesOf(set: BlockSet, rawBytes: number): number {
  return rangesOf(set, rawBytes).reduce((sum, { length }) => sum + length, 0)
}

/** The blocks of the set, one behind the other. */
export function takeBlocks(raw: Buffer, set: BlockSet): Buffer {
  return Buffer.concat(rangesOf(set, raw.length).map(({ offset, length }) => raw.subarray(offset, offset + length)))
}

/** The inverse: puts the blocks into their places in `raw`. Throws when they are more or fewer. */
export function putBlocks(raw: Buffer, set: BlockSet, blocks: Buffer): void {
  let at = 0
  for (const { offset, length } of rangesOf(set, raw.length)) {
    at += blocks.copy(raw, offset, at, at + length)
  }
  if (at !== blocks.length || at !== bytesOf(set, raw.length)) throw new Error(`${blocks.length} bytes of blocks`)
}

/** As a word of a URL, the same for the same set. */
export function formatBlockSet(set: BlockSet): string {
  return set.toString('base64url')
}

/** The set of a frame of `rawBytes`, or undefined where `text` is none, names blocks that are not there, or none at all. */
export function parseBlockSet(text: string, rawBytes: number): BlockSet | undefined {
  if (text.length > Math.ceil((blocksPerFrame / 8) * (4 / 3))) return undefined
  const set = Buffer.from(text, 'base64url')
  const blocks = Math.ceil(rawBytes / blockBytes)
  if (set.toString('base64url') !== text || set.length !== Math.ceil(blocks / 8)) return undefined
  const beyond = (0xff >> (blocks % 8 || 8)) & (set.at(-1) ?? 0)
  return beyond === 0 && set.some((byte) => byte !== 0) ? set : undefined
}
