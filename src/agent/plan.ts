// What to fetch and what to zero, worked out from the manifest before the first byte moves. Pure.
import { rawBytesOf, writtenRanges } from '../image/frames.ts'
import type { Manifest } from '../model/image.ts'

/**
 * This much of the disk's beginning is written last, after everything else was read back and found right: MBR or GPT
 * lie here, so a disk that is not complete and proven has no partition table and never boots. Zeros stand here before.
 */
export const headBytesMax = 1024 * 1024

/** Data frames that lie one behind the other in image.zst and are asked for in one request. */
export type Batch = {
  /** Where in image.zst, in bytes. */
  readonly offset: number
  readonly length: number
  readonly frames: readonly number[]
}

/** Bytes of disk. */
export type Range = { readonly offset: number; readonly length: number }

/**
 * The requests for the data frames of one image that are wanted. A batch never exceeds `batchBytesMax` unless one frame
 * does, nor `batchFramesMax`; small frames share a request because on short ones the round trip is most of the time.
 * Batches and frames are in disk order: a rotating disk seeks little.
 */
export function planBatches(
  manifest: Manifest,
  limits: { readonly batchBytesMax: number; readonly batchFramesMax: number },
  isWanted: (number: number) => boolean = () => true,
): readonly Batch[] {
  const batches: { offset: number; length: number; frames: number[] }[] = []
  manifest.frames.forEach((frame, number) => {
    if (frame.class !== 'data' || !isWanted(number)) return
    const last = batches.at(-1)
    const joins = last !== undefined && last.offset + last.length === frame.offset
    const fits = joins && last.length + frame.length <= limits.batchBytesMax
    if (fits && last.frames.length < limits.batchFramesMax) {
      last.length += frame.length
      last.frames.push(number)
    } else batches.push({ offset: frame.offset, length: frame.length, frames: [number] })
  })
  return batches
}

/** Bytes of the disk of one frame that the image says something of: all but its free blocks. */
export function filledBytes(manifest: Manifest, number: number): number {
  return writtenRanges(manifest, number).reduce((sum, { length }) => sum + length, 0)
}

/** Bytes of the disk in frames that may read as anything: nothing is done about them. */
export function freeFrameBytes(manifest: Manifest): number {
  return manifest.frames.reduce(
    (sum, frame, number) => sum + (frame.class === 'free' ? rawBytesOf(manifest, number) : 0),
    0,
  )
}

/**
 * What of the disk must read as zeros: whole runs of zero frames, in disk order, cut at `zeroBytesMax` so that each is a
 * step to be seen and stopped. Frames of `kept` read so already.
 */
export function planZeros(
  manifest: Manifest,
  zeroBytesMax: number,
  kept: ReadonlySet<number> = new Set(),
): readonly Range[] {
  const zeros: { offset: number; length: number }[] = []
  manifest.frames.forEach((frame, number) => {
    if (frame.class !== 'zero' || kept.has(number)) return
    const offset = number * manifest.frameSizeBytes
    const length = rawBytesOf(manifest, number)
    const last = zeros.at(-1)
    const joins = last !== undefined && last.offset + last.length === offset
    if (joins && last.length + length <= zeroBytesMax) last.length += length
    else zeros.push({ offset, length })
  })
  return zeros
}
