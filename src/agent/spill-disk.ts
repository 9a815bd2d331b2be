// The unused part of a target disk as the place for pieces that memory has no room for. What is left there afterwards is
// harmless: it lies in no partition, holds nothing but compressed parts of the image that the disk holds anyway, and keeps
// clear of the last MiB, where backup GPT and the superblocks of md and ZFS are looked for; `wipe` has zeroed that.
import { alignedBuffers } from '../lib/aligned-buffers.ts'
import type { SpillArea } from '../swarm/spill-area.ts'
import { openDisk } from './disk.ts'
import type { Device, Place } from './place.ts'
import type { Range } from './plan.ts'

const mebibyte = 1024 * 1024

/** So far from the image and from the end of the disk. */
const clearBytes = mebibyte
/** A smaller area is not worth its memory. */
const sizeBytesMin = 64 * mebibyte

/** Direct I/O goes through this much aligned memory at once; more readers and writers wait. */
const slots = 4

/** What of a disk lies behind an image of `imageBytes`; undefined where that is too little. */
export function unusedEnd(imageBytes: number, diskBytes: number): Range | undefined {
  const offset = Math.ceil((imageBytes + clearBytes) / mebibyte) * mebibyte
  const end = Math.floor((diskBytes - clearBytes) / mebibyte) * mebibyte
  return end - offset < sizeBytesMin ? undefined : { offset, length: end - offset }
}

/** A range of a disk that nothing else is written to. */
export type SpillPlace = { readonly disk: Device; readonly range: Range }

/**
 * Where the pieces of each image may spill, by the names of their places: behind the image where it has the whole disk,
 * else in what no partition of the plan has, shared out among the images on that disk. Places without room are left out.
 */
export function spillPlaces(
  targets: readonly { readonly place: Place; readonly imageBytes: number }[],
  unused: ReadonlyMap<string, readonly Range[]>,
): ReadonlyMap<string, SpillPlace> {
  const found = new Map<string, SpillPlace>()
  for (const { place, imageBytes } of targets) {
    const { disk, partition, name } = place
    if (disk === undefined) continue
    const sharing = targets.filter((one) => one.place.disk === disk)
    const share = sharing.findIndex((one) => one.place === place)
    const range =
      partition === undefined
        ? unusedEnd(imageBytes, disk.sizeBytes)
        : shareOf(unused.get(name.split(':')[0] ?? '') ?? [], { share, shares: sharing.length, disk })
    if (range !== undefined) found.set(name, { disk, range })
  }
  return found
}

type Share = { readonly share: number; readonly shares: number; readonly disk: Device }

/** One of equal parts of the largest range, clear of what is around it. */
function shareOf(ranges: readonly Range[], { share, shares, disk }: Share): Range | undefined {
  const inside = ranges.map(({ offset, length }) => {
    const from = Math.ceil((offset + clearBytes) / mebibyte) * mebibyte
    const end = Math.min(offset + length, disk.sizeBytes) - clearBytes
    return { offset: from, length: end - from }
  })
  const largest = inside.reduce((best, range) => (range.length > best.length ? range : best), { offset: 0, length: 0 })
  const length = Math.floor(largest.length / shares / mebibyte) * mebibyte
  return length < sizeBytesMin ? undefined : { offset: largest.offset + share * length, length }
}

export type SpillDisk = { readonly area: SpillArea; readonly close: () => Promise<void> }

/** Opens a range of a disk for pieces of at most `pieceBytes`. Throws Failure `disk-error`. */
export async function openSpillDisk(seen: Device, range: Range, pieceBytes: number): Promise<SpillDisk> {
  // Beside the claim of the work itself, and after it: the pieces are served until the machine goes.
  const disk = await openDisk(seen.path, seen.sectorBytes, { claim: false })
  const slotBytes = Math.ceil(pieceBytes / seen.sectorBytes) * seen.sectorBytes
  const free: Buffer[] = []
  const waiting: ((slot: Buffer) => void)[] = []
  let isAllocated = false
  const withSlot = async (work: (slot: Buffer) => Promise<void>) => {
    // Most machines never spill.
    if (!isAllocated) free.push(...alignedBuffers(slots, slotBytes))
    isAllocated = true
    const slot = free.pop() ?? (await new Promise<Buffer>((resolve) => waiting.push(resolve)))
    try {
      await work(slot)
    } finally {
      const next = waiting.shift()
      if (next === undefined) free.push(slot)
      else next(slot)
    }
  }
  const area: SpillArea = {
    sizeBytes: range.length,
    write: (bytes, at) =>
      withSlot(async (slot) => {
        bytes.copy(slot)
        await disk.write(slot, bytes.length, range.offset + at)
      }),
    read: (into, at) =>
      withSlot(async (slot) => {
        await disk.read(slot, into.length, range.offset + at)
        slot.copy(into, 0, 0, into.length)
      }),
  }
  return { area, close: () => disk.close() }
}
