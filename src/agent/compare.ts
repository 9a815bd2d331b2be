// What of an image its place holds already: whole frames found by reading the disk, and within a frame that has come the
// blocks that differ from what is there. Nothing here writes.
import type { BlockSet } from '../image/blocks.ts'
import { isZero, rawBytesOf, sha256Of } from '../image/frames.ts'
import type { Manifest } from '../model/image.ts'
import type { OpenDisk } from './disk.ts'
import { lanesOver, together } from './lanes.ts'
import type { OriginBlocks } from './origin-blocks.ts'
import { freeFrameBytes, headBytesMax, type Range } from './plan.ts'
import { readRanges } from './read-frame.ts'

/** Blocks that differ are written; page and sector of all disks fit into one. */
const blockBytes = 4096

/** Runs with less between them are written as one: a request costs more than so few bytes. */
const gapBytesMax = 32 * 1024

export type Comparing = {
  readonly disk: OpenDisk
  readonly manifest: Manifest
  /** As in write.ts. */
  readonly buffers: { readonly raw: readonly Buffer[]; readonly head: Buffer }
}

/** True when the place holds what the manifest says of this frame; `slot` then begins with its bytes. */
export async function isFrameThere(
  { disk, manifest }: Pick<Comparing, 'disk' | 'manifest'>,
  number: number,
  slot: Buffer,
): Promise<boolean> {
  const frame = manifest.frames[number]
  const length = rawBytesOf(manifest, number)
  await readRanges(disk, manifest, number, slot, 0)
  const raw = slot.subarray(0, length)
  return frame?.class === 'data' ? (await sha256Of(raw)) === frame.rawSha256 : isZero(raw)
}

/** What the place holds of the image. */
export type Compared = {
  /** Frames that are there whole. */
  readonly kept: ReadonlySet<number>
  /** Frames that are there but for a few blocks, with those. */
  readonly mendable: ReadonlyMap<number, BlockSet>
}

export type ComparingAll = Comparing & {
  /** Frames that begin at or reach behind it are not looked at. */
  readonly untilBytes: number
  /** Who tells which blocks of a frame differ; undefined: nobody, and every frame that differs comes whole. */
  readonly blocks: OriginBlocks | undefined
  readonly onProgress: (doneBytes: number) => void
}

/**
 * Reads the place, but for what is free, and tells what of the image is there. When that is so of the first frame, or of most of
 * it, its first MiB is put into `buffers.head`: it is about to be wiped. Throws Failure `disk-error`.
 */
export async function compareFrames(work: ComparingAll, signal: AbortSignal): Promise<Compared> {
  const { manifest, buffers, untilBytes, blocks, onProgress } = work
  const kept = new Set<number>()
  const mendable = new Map<number, BlockSet>()
  let doneBytes = freeFrameBytes(manifest)
  const look = async (number: number, lane: number, signal: AbortSignal) => {
    const slot = buffers.raw[lane]
    if (slot === undefined) throw new Error(`no buffer for lane ${lane}`)
    const length = rawBytesOf(manifest, number)
    const isLookedAt = number * manifest.frameSizeBytes + length <= untilBytes
    if (isLookedAt) {
      const isThere = await isFrameThere(work, number, slot)
      const isData = manifest.frames[number]?.class === 'data'
      const set = isThere || !isData ? undefined : await blocks?.missing(number, slot.subarray(0, length), signal)
      if (isThere) kept.add(number)
      if (set !== undefined) mendable.set(number, set)
      if (number === 0 && (isThere || set)) slot.copy(buffers.head, 0, 0, Math.min(length, headBytesMax))
    }
    doneBytes += length
    onProgress(doneBytes)
  }
  const filled = [...manifest.frames.keys()].filter((number) => manifest.frames[number]?.class !== 'free')
  await together(signal, lanesOver(buffers.raw.length, filled, look))
  return { kept, mendable }
}

/**
 * The runs of blocks in which two buffers of one length differ, joined where little lies between them. `there` is what the
 * disk holds.
 */
export function differingRuns(wanted: Buffer, there: Buffer): readonly Range[] {
  const runs: { offset: number; length: number }[] = []
  for (let offset = 0; offset < wanted.length; offset += blockBytes) {
    const end = Math.min(offset + blockBytes, wanted.length)
    if (wanted.compare(there, offset, end, offset, end) === 0) continue
    const last = runs.at(-1)
    if (last !== undefined && offset - (last.offset + last.length) < gapBytesMax) last.length = end - last.offset
    else runs.push({ offset, length: end - offset })
  }
  return runs
}
