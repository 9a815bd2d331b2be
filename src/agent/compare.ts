// What of an image its place holds already: whole frames found by reading the disk, and within a frame that has come the
// blocks that differ from what is there. Nothing here writes.
import { isZero, rawBytesOf, sha256Of } from '../image/frames.ts'
import type { Manifest } from '../model/image.ts'
import type { OpenDisk } from './disk.ts'
import { lanesOver, together } from './lanes.ts'
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

/**
 * Reads the place, but for what is free, and gives the frames that are there as the manifest has them. When the first is, its first MiB is put
 * into `buffers.head`: it is about to be wiped. Frames that begin at or reach behind `untilBytes` are not looked at. Throws
 * Failure `disk-error`.
 */
export async function compareFrames(
  work: Comparing & { readonly untilBytes: number; readonly onProgress: (doneBytes: number) => void },
  signal: AbortSignal,
): Promise<ReadonlySet<number>> {
  const { manifest, buffers, untilBytes, onProgress } = work
  const kept = new Set<number>()
  let doneBytes = freeFrameBytes(manifest)
  const look = async (number: number, lane: number) => {
    const slot = buffers.raw[lane]
    if (slot === undefined) throw new Error(`no buffer for lane ${lane}`)
    const length = rawBytesOf(manifest, number)
    const isLookedAt = number * manifest.frameSizeBytes + length <= untilBytes
    if (isLookedAt && (await isFrameThere(work, number, slot))) {
      kept.add(number)
      if (number === 0) slot.copy(buffers.head, 0, 0, Math.min(length, headBytesMax))
    }
    doneBytes += length
    onProgress(doneBytes)
  }
  const filled = [...manifest.frames.keys()].filter((number) => manifest.frames[number]?.class !== 'free')
  await together(signal, lanesOver(buffers.raw.length, filled, look))
  return kept
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
