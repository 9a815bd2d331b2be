// Brings the image onto the disk, all but its first MiB: what would make the disk boot is wiped before, and kept out
// until verify.ts has read everything else back. A frame that is done stays done, whatever happens to the origin.
import { execa } from 'execa'
import { frameStoredBytesMax, inflateFrame } from '../image/frames.ts'
import { Failure } from '../model/failure.ts'
import { frameSizeBytes, type Manifest } from '../model/image.ts'
import { alignedBuffers, type OpenDisk, openDisk } from './disk.ts'
import { lanesOver, together } from './lanes.ts'
import type { Log } from './log.ts'
import { corrupt, type Origin, refetchesMax } from './origin.ts'
import { type Batch, headBytesMax, planTransfer, type Range } from './plan.ts'

/** Five frames in flight cover 1 Gbit/s over 160 ms of round trip; more would cost memory and bring nothing. */
const lanesMax = 5
const memoryBytesPerLane = 160 * 1024 * 1024

/**
 * How many requests are in flight. Each lane keeps 8.1 MiB (a frame of disk and a batch as fetched); what inflating and
 * hashing take and leave to the collector is more. Seen of the process's own memory over loopback: 190 to 245 MB with six
 * lanes, 135 to 160 with three, 125 with two, 45 of each being the program itself. A machine of 1 GiB gets all five,
 * one of 512 MiB three.
 */
export function lanesFor(memoryBytes: number): number {
  return Math.max(1, Math.min(lanesMax, Math.floor(memoryBytes / memoryBytesPerLane)))
}

/** One request asks for so much at most, beyond a single frame; so few frames that a lost one is little work lost. */
const planLimits = { batchBytesMax: frameStoredBytesMax, batchFramesMax: 8, zeroBytesMax: 256 * 1024 * 1024 }

/** The end of the disk that is wiped too: backup GPT and the superblocks of md and ZFS lie there. */
const tailBytesMax = 1024 * 1024

const wipeTimeoutMs = 60_000

/** The memory that one deployment works in; as many lanes as there are buffers in `raw`. */
export type Buffers = {
  /** A frame of disk for each lane, fit for direct I/O. */
  readonly raw: readonly Buffer[]
  /** A batch as it came from the origin, for each lane. */
  readonly compressed: readonly Buffer[]
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
  return { raw, compressed: Array.from({ length: lanes }, () => Buffer.alloc(frameStoredBytesMax)), head, zeros }
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
    await opened.write(zeros, Math.min(headBytesMax, disk.sizeBytes), 0)
    await opened.flush()
    const tail = Math.min(tailBytesMax, disk.sizeBytes)
    await opened.write(zeros, tail, disk.sizeBytes - tail)
    await opened.flush()
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

export type TransferCounts = { readonly bytesWritten: number; readonly bytesZeroed: number }

export type Transfer = {
  readonly origin: Origin
  readonly imageUrl: string
  readonly manifest: Manifest
  readonly disk: OpenDisk
  readonly buffers: Buffers
  readonly log: Log
  /** Called with the bytes of disk that are done, all told. */
  readonly onProgress: (doneBytes: number) => void
}

/**
 * Fetches, checks, inflates and writes every data frame and zeroes every zero frame, then flushes. The first MiB of the
 * image ends up in `buffers.head` and not on the disk. Throws Failure `image-corrupt`, `origin-unreachable`,
 * `origin-error` or `disk-error`.
 */
export async function transfer(work: Transfer, signal: AbortSignal): Promise<TransferCounts> {
  const plan = planTransfer(work.manifest, planLimits)
  const counts = { bytesWritten: 0, bytesZeroed: 0 }
  const done = () => work.onProgress(counts.bytesWritten + counts.bytesZeroed)
  const zero = async (range: Range, _: number, signal: AbortSignal) => {
    await work.disk.zero(range.offset, range.length, work.buffers.zeros, signal)
    counts.bytesZeroed += range.length
    done()
  }
  const bring = async (batch: Batch, lane: number, signal: AbortSignal) => {
    for await (const bytes of bringBatch(work, batch, lane, signal)) {
      counts.bytesWritten += bytes
      done()
    }
  }
  await together(signal, [
    ...lanesOver(1, plan.zeros, zero),
    ...lanesOver(work.buffers.raw.length, plan.batches, bring),
  ])
  await work.disk.flush()
  return counts
}

/** Brings the frames of one batch to the disk and yields the bytes of disk of each as it is written. */
async function* bringBatch(work: Transfer, batch: Batch, lane: number, signal: AbortSignal): AsyncGenerator<number> {
  const { origin, imageUrl, manifest, disk, buffers } = work
  const [compressed, slot] = [buffers.compressed[lane], buffers.raw[lane]]
  if (compressed === undefined || slot === undefined) throw new Error(`no buffers for lane ${lane}`)
  const bytes = compressed.subarray(0, batch.length)
  await origin.fetchRange(imageUrl, batch.offset, manifest.storedBytes, bytes, signal)
  let at = 0
  for (const number of batch.frames) {
    const length = manifest.frames[number]?.length ?? 0
    const raw = await inflate(work, number, bytes.subarray(at, at + length), signal)
    at += length
    raw.copy(slot)
    await writeFrame(disk, buffers.head, number * manifest.frameSizeBytes, slot, raw.length)
    origin.progressed()
    signal.throwIfAborted()
    yield raw.length
  }
}

/** Inflates one frame that was fetched to `bytes`; a corrupt one is fetched anew, a bounded number of times. */
async function inflate(work: Transfer, number: number, bytes: Buffer, signal: AbortSignal): Promise<Buffer> {
  const { origin, imageUrl, manifest, log } = work
  const offset = manifest.frames[number]?.offset ?? 0
  const place = `frame ${number} (offset ${offset} of image.zst, ${number * manifest.frameSizeBytes} of the disk)`
  for (let fetches = 1; ; fetches++) {
    try {
      return await inflateFrame(manifest, number, bytes)
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'image-corrupt')) throw error
      if (fetches > refetchesMax) throw corrupt(`${place} is corrupt at ${imageUrl}, fetched ${fetches} times`, error)
      log.failure(`${place} is corrupt, fetching it again (${fetches} of ${refetchesMax})`, error)
    }
    await origin.fetchRange(imageUrl, offset, manifest.storedBytes, bytes, signal)
  }
}

/** Writes the frame in `slot`, but keeps what belongs to the head of the disk in `head`. */
async function writeFrame(disk: OpenDisk, head: Buffer, offset: number, slot: Buffer, length: number): Promise<void> {
  const kept = offset === 0 ? Math.min(length, headBytesMax) : 0
  slot.copy(head, 0, 0, kept)
  if (length > kept) await disk.write(slot.subarray(kept), length - kept, offset + kept)
}
