// How this machine's memory is shared out: lanes that check, inflate and write, and the compressed pieces that are kept for
// others; in a capture lanes that read and compress, and the map of what is free. Pure.

const mebibyte = 1024 * 1024

/** Five frames in flight cover 1 Gbit/s over 160 ms of round trip; more would cost memory and bring nothing. */
const lanesMax = 5
const memoryBytesPerLane = 160 * mebibyte

/**
 * How many frames are in work, and requests at the origin in flight. Each lane keeps 8.1 MiB (a frame of disk and one as
 * stored); what inflating and hashing take and leave to the collector is more. Seen of the process's own memory over
 * loopback: 190 to 245 MB with six lanes, 135 to 160 with three, 125 with two, 45 of each being the program itself. A
 * machine of 1 GiB gets all five, one of 512 MiB three.
 */
export function lanesFor(memoryBytes: number): number {
  return Math.max(1, Math.min(lanesMax, Math.floor(memoryBytes / memoryBytesPerLane)))
}

/** The other part is the system, which lies in memory whole, sockets, and what is being received. */
const memoryPart = 0.45
/** By which a lane makes the process grow, as seen above. */
const bytesPerLane = 40 * mebibyte
/** Less holds too little of what the next host asks for: at 1 Gbit/s half a second. */
const pieceBytesMin = 64 * mebibyte

/** What the compressed pieces may take of the memory beside the lanes. */
export function pieceBudgetFor(memoryBytes: number): number {
  const left = Math.floor(memoryPart * memoryBytes) - lanesFor(memoryBytes) * bytesPerLane
  return Math.max(pieceBytesMin, left)
}

/** One reads while the other compresses and sends. */
const captureLanesMin = 2

export type CapturePlan = {
  /** Frames read and compressed at once. */
  readonly lanes: number
  /** Whether the map of what is free has room beside them. */
  readonly hasMap: boolean
}

/**
 * For a disk whose map of what is free takes `mapBytes`, 128 MiB at most: the lanes make room for it, because what is left out
 * saves more than they do. The quarter of the memory that a repair may take is of the other part.
 */
export function capturePlanFor(memoryBytes: number, mapBytes: number): CapturePlan {
  const lanes = lanesFor(memoryBytes) + 1
  const besideMap = Math.floor((memoryPart * memoryBytes - mapBytes) / bytesPerLane)
  if (besideMap < captureLanesMin) return { lanes, hasMap: false }
  return { lanes: Math.min(lanes, besideMap), hasMap: true }
}
