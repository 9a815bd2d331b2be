// Brings the image onto the disk, all but its first MiB: what would make the disk boot is wiped before, and kept out
// until verify.ts has read everything else back. A frame that is done stays done, whatever happens to its source.
import { execa } from 'execa'
import type { BlockSet } from '../image/blocks.ts'
import { inflateFrame, rawBytesOf, writtenRanges } from '../image/frames.ts'
import { alignedBuffers } from '../lib/aligned-buffers.ts'
import { Failure } from '../model/failure.ts'
import { frameSizeBytes, type Manifest } from '../model/image.ts'
import { type Compared, differingRuns } from './compare.ts'
import { type OpenDisk, openDisk } from './disk.ts'
import type { ArrivedFrame, FrameSource } from './frame-source.ts'
import { lanesOver, lanesOverArrivals, together } from './lanes.ts'
import type { Log } from './log.ts'
import { corrupt, type Origin, refetchesMax } from './origin.ts'
import type { OriginBlocks } from './origin-blocks.ts'
import { filledBytes, freeFrameBytes, headBytesMax, planZeros, type Range } from './plan.ts'
import { readRanges } from './read-frame.ts'

/** Zeros are a step of so much at most: to be seen and stopped. */
const zeroBytesMax = 256 * 1024 * 1024

/** What is written is made durable after so much of it or so long, that the reports of it mean something. */
const flushBytes = 512 * 1024 * 1024
const flushEveryMs = 5_000

/** The end of the disk that is wiped too: backup GPT and the superblocks of md and ZFS lie there. */
const tailBytesMax = 1024 * 1024

const wipeTimeoutMs = 60_000

/** The memory that one deployment works in; as many lanes as there are buffers in `raw`. */
export type Buffers = {
  /** A frame of disk for each lane, fit for direct I/O. */
  readonly raw: readonly Buffer[]
  /** The first MiB of the image, kept until the end. */
  readonly head: Buffer
  /** Stays zero. */
  readonly zeros: Buffer
}

export function createBuffers(lanes: number): Buffers {
  const raw = alignedBuffers(lanes + 1, frameSizeBytes)
  const [head] = alignedBuffers(1, headBytesMax)
  const zeros = raw.pop()
  if (head === undefined || zeros === undefined) throw new Error('alignedBuffers gave fewer than asked for')
  return { raw, head, zeros }
}

/**
 * Makes the disk one that boots nothing and holds no old signature: first MiB, last MiB, and what wipefs finds beyond.
 * Resolves when that is durable. Throws Failure `disk-error`.
 */
export async function wipe(
  disk: { readonly path: string; readonly sizeBytes: number; readonly sectorBytes: number },
  zeros: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const opened = await openDisk(disk.path, disk.sectorBytes)
  let isBlockDevice: boolean
  try {
    isBlockDevice = opened.isBlockDevice
    await wipeEnds(opened, disk.sizeBytes, zeros)
  } finally {
    await opened.close()
  }
  if (!isBlockDevice) return
  // Only now: it wants the disk for itself, and a disk that it cannot have is in use.
  const options = { cancelSignal: signal, timeout: wipeTimeoutMs, stdin: 'ignore' } as const
  await execa('wipefs', ['--all', disk.path], options).catch((cause: unknown) => {
    signal.throwIfAborted()
    throw new Failure('disk-error', `wipe the signatures of ${disk.path}`, { cause })
  })
}

/** First and last MiB: the disk boots nothing from here on. Resolves when that is durable. */
export async function wipeEnds(disk: OpenDisk, sizeBytes: number, zeros: Buffer): Promise<void> {
  await disk.write(zeros, Math.min(headBytesMax, sizeBytes), 0)
  await disk.flush()
  const tail = Math.min(tailBytesMax, sizeBytes)
  await disk.write(zeros, tail, sizeBytes - tail)
  await disk.flush()
}

/** Where the wiped end of a disk begins. */
export function tailOf(sizeBytes: number): number {
  return Math.max(0, sizeBytes - tailBytesMax)
}

export type TransferCounts = {
  readonly bytesWritten: number
  readonly bytesZeroed: number
  /** Bytes of disk that were there already. */
  readonly bytesKept: number
}

export type TransferProgress = {
  /** Bytes of disk that are written or zeroed, or need neither: they were there, or are free. */
  readonly doneBytes: number
  /** Bytes of image.zst in frames that are written, and in those that are known to survive a loss of power. */
  readonly writtenBytes: number
  readonly durableBytes: number
  /** What the origin was asked for beside the source: frames that were lost or corrupt there, single blocks and their sums. */
  readonly besideBytes: number
}

export type Transfer = {
  readonly source: FrameSource
  /** Who is asked for a frame that the source brought corrupt. */
  readonly origin: Origin
  readonly imageUrl: string
  readonly manifest: Manifest
  readonly disk: OpenDisk
  readonly buffers: Buffers
  readonly log: Log
  /** What is there already; undefined: the place was not compared, and all is written that comes. */
  readonly compared?: Compared | undefined
  /** Who has single blocks; there where the comparison found frames that want only some. */
  readonly blocks?: OriginBlocks | undefined
  readonly onProgress: (progress: TransferProgress) => void
}

/** A frame that the place holds but for the blocks of `set`. */
type Mendable = { readonly number: number; readonly set: BlockSet }

const nothingThere: Compared = { kept: new Set(), mendable: new Map() }

/**
 * Takes every data frame from the source in the order of arrival, checks, inflates and writes it, but for its free blocks;
 * mends those that want only some blocks; zeroes every zero frame beside; leaves out what is there; then flushes. The first MiB of the image ends up in `buffers.head` and not on the disk. Throws Failure
 * `image-corrupt`, `origin-unreachable`, `origin-error` or `disk-error`.
 */
export async function transfer(work: Transfer, signal: AbortSignal): Promise<TransferCounts> {
  const { source, manifest, disk, buffers, compared = nothingThere, blocks, onProgress } = work
  const { kept } = compared
  const counts = { bytesWritten: 0, bytesZeroed: 0, bytesKept: 0 }
  let doneBytes = freeFrameBytes(manifest)
  let writtenBytes = 0
  for (const number of kept) {
    // The head of the first was wiped, and is written in the end.
    const head = number === 0 ? Math.min(rawBytesOf(manifest, 0), headBytesMax) : 0
    counts.bytesWritten += head
    counts.bytesKept += Math.max(0, filledBytes(manifest, number) - head)
    doneBytes += rawBytesOf(manifest, number)
    writtenBytes += storedBytesOf(manifest, number)
  }
  let refetchedBytes = 0
  const durability = createDurability(disk)
  const tell = () => {
    const besideBytes = refetchedBytes + (blocks?.receivedBytes ?? 0)
    onProgress({ doneBytes, writtenBytes, durableBytes: durability.storedBytes, besideBytes })
    return { doneBytes, storedBytes: writtenBytes }
  }
  const zero = async (range: Range, _: number, signal: AbortSignal) => {
    await disk.zero(range.offset, range.length, buffers.zeros, signal)
    counts.bytesZeroed += range.length
    doneBytes += range.length
    await durability.flushWhenDue(tell())
  }
  const bring = async (frame: ArrivedFrame | Mendable, lane: number, signal: AbortSignal) => {
    const slot = buffers.raw[lane]
    if (slot === undefined) throw new Error(`no buffer for lane ${lane}`)
    const refetch = async (number: number) => {
      const { offset, length } = manifest.frames[number] ?? { offset: 0, length: 0 }
      // Not into the source's own bytes: it may be giving them to others.
      const bytes = Buffer.allocUnsafeSlow(length)
      await work.origin.fetchRange(work.imageUrl, offset, manifest.storedBytes, bytes, signal)
      refetchedBytes += length
      return bytes
    }
    const { number } = frame
    const mended = 'set' in frame ? await mend(work, frame, slot, signal) : undefined
    // What could not be mended comes whole, and from the origin: the source was not asked to bring it.
    const arrived = 'set' in frame ? { number, read: () => refetch(number) } : frame
    const raw = mended ?? (await inflate(work, arrived, refetch, signal))
    const bytes = await writeFrame(work, number, { raw, slot, isRead: mended !== undefined })
    if (!('set' in frame)) source.written(number)
    counts.bytesWritten += bytes.written
    counts.bytesKept += bytes.kept
    doneBytes += raw.length
    writtenBytes += storedBytesOf(manifest, number)
    signal.throwIfAborted()
    await durability.flushWhenDue(tell())
  }
  await together(signal, [
    ...lanesOver(1, planZeros(manifest, zeroBytesMax, kept), zero),
    ...lanesOverArrivals(buffers.raw.length, (signal) => arrivals(work, signal), bring),
  ])
  await durability.flush(tell())
  tell()
  return counts
}

/** What wants only some blocks, then what the source brings. */
async function* arrivals(
  { source, compared = nothingThere }: Pick<Transfer, 'source' | 'compared'>,
  signal: AbortSignal,
): AsyncGenerator<ArrivedFrame | Mendable, void> {
  for (const [number, set] of compared.mendable) yield { number, set }
  yield* source.frames(signal)
}

/**
 * The frame as it is to be, or undefined when it cannot be put together from blocks. `slot` then holds what the place holds, the
 * first MiB of the image as `buffers.head` has it.
 */
async function mend(
  { disk, manifest, buffers, blocks }: Transfer,
  { number, set }: Mendable,
  slot: Buffer,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const length = rawBytesOf(manifest, number)
  const head = number === 0 ? Math.min(length, headBytesMax) : 0
  buffers.head.copy(slot, 0, 0, head)
  await readRanges(disk, manifest, number, slot, head)
  const raw = Buffer.from(slot.subarray(0, length))
  return (await blocks?.mend(number, raw, set, signal)) ? raw : undefined
}

type Written = { readonly doneBytes: number; readonly storedBytes: number }

/** Flushes now and then, one flush at a time, while others go on writing; what was written before it began is durable. */
function createDurability(disk: OpenDisk) {
  let flushed = { doneBytes: 0, atMs: performance.now() }
  let isFlushing = false
  const durability = {
    /** Bytes of image.zst in frames that are durable. */
    storedBytes: 0,
    flush: async ({ doneBytes, storedBytes }: Written) => {
      isFlushing = true
      await disk.flush()
      isFlushing = false
      durability.storedBytes = storedBytes
      flushed = { doneBytes, atMs: performance.now() }
    },
    flushWhenDue: async (written: Written) => {
      const isDue =
        written.doneBytes - flushed.doneBytes >= flushBytes || performance.now() - flushed.atMs >= flushEveryMs
      if (isDue && !isFlushing) await durability.flush(written)
    },
  }
  return durability
}

/** Gives the disk bytes of a frame; one that is lost or corrupt is fetched from the origin, a bounded number of times. */
export async function inflate(
  { imageUrl, manifest, log }: Pick<Transfer, 'imageUrl' | 'manifest' | 'log'>,
  { number, read }: ArrivedFrame,
  refetch: (number: number) => Promise<Buffer>,
  signal: AbortSignal,
): Promise<Buffer> {
  const offset = manifest.frames[number]?.offset
  const place = `frame ${number} (offset ${offset} of image.zst, ${number * manifest.frameSizeBytes} of the disk)`
  let bytes = await read().catch((error: unknown) => {
    signal.throwIfAborted()
    log.failure(`${place} is lost, fetching it from the origin`, error)
    return refetch(number)
  })
  for (let fetches = 1; ; fetches++) {
    try {
      return await inflateFrame(manifest, number, bytes)
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'image-corrupt')) throw error
      if (fetches > refetchesMax) throw corrupt(`${place} is corrupt at ${imageUrl}, fetched ${fetches} times`, error)
      log.failure(`${place} is corrupt, fetching it again (${fetches} of ${refetchesMax})`, error)
    }
    bytes = await refetch(number)
  }
}

/** Bytes of image.zst of a data frame. */
function storedBytesOf(manifest: Manifest, number: number): number {
  const frame = manifest.frames[number]
  return frame?.class === 'data' ? frame.length : 0
}

/**
 * Writes what of the frame is to be written, but keeps what belongs to the head of the disk in `buffers.head`. Where the place
 * was compared, only blocks that differ are written; `isRead`: `slot` holds what is there. Gives the bytes written, the head's too, and those that were there.
 */
async function writeFrame(
  { disk, buffers, manifest, compared }: Transfer,
  number: number,
  { raw, slot, isRead }: { readonly raw: Buffer; readonly slot: Buffer; readonly isRead: boolean },
): Promise<{ readonly written: number; readonly kept: number }> {
  const place = number * manifest.frameSizeBytes
  const head = number === 0 ? Math.min(raw.length, headBytesMax) : 0
  raw.copy(buffers.head, 0, 0, head)
  let [written, kept] = [head, 0]
  for (const { offset, length } of writtenRanges(manifest, number)) {
    const from = Math.max(offset, head)
    const rest = offset + length - from
    if (rest <= 0) continue
    const part = slot.subarray(from)
    const wanted = raw.subarray(from, from + rest)
    if (compared !== undefined && !isRead) await disk.read(part, rest, place + from)
    const runs = compared === undefined ? [{ offset: 0, length: rest }] : differingRuns(wanted, part)
    wanted.copy(part)
    for (const run of runs) {
      await disk.write(part.subarray(run.offset), run.length, place + from + run.offset)
      written += run.length
    }
    kept += rest - runs.reduce((sum, run) => sum + run.length, 0)
  }
  return { written, kept }
}
