// The unused end of the target disk as the place for pieces that memory has no room for. What is left there afterwards is
// harmless: it lies in no partition, holds nothing but compressed parts of the image that the disk holds anyway, and keeps
// clear of the last MiB, where backup GPT and the superblocks of md and ZFS are looked for; `wipe` has zeroed that.
import type { SpillArea } from '../swarm/spill-area.ts'
import { alignedBuffers, openDisk } from './disk.ts'
import type { SeenDisk } from './inventory.ts'
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

export type SpillDisk = { readonly area: SpillArea; readonly close: () => Promise<void> }

/** Opens a range of a disk for pieces of at most `pieceBytes`. Throws Failure `disk-error`. */
export async function openSpillDisk(seen: SeenDisk, range: Range, pieceBytes: number): Promise<SpillDisk> {
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
