// A frame of an image as it lies on the disk, read as the manifest sees it: free blocks count as zeros, whatever is there.
import { rawBytesOf, writtenRanges } from '../image/frames.ts'
import type { Manifest } from '../model/image.ts'
import type { OpenDisk } from './disk.ts'

/**
 * Reads what of a frame was written to its place in `slot`, from byte `kept` on, and puts zeros between. Gives the bytes that
 * were read.
 */
export async function readRanges(
  disk: OpenDisk,
  manifest: Manifest,
  number: number,
  slot: Buffer,
  kept: number,
): Promise<number> {
  let filled = kept
  let readBytes = 0
  for (const { offset, length } of writtenRanges(manifest, number)) {
    const from = Math.max(offset, filled)
    const end = offset + length
    if (end <= from) continue
    slot.fill(0, filled, from)
    await disk.read(slot.subarray(from), end - from, number * manifest.frameSizeBytes + from)
    readBytes += end - from
    filled = end
  }
  slot.fill(0, filled, rawBytesOf(manifest, number))
  return readBytes
}
