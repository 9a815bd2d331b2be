// Whether it pays to compare what a disk holds before anything is fetched: a few frames are looked at, and the time to read
// the whole image back is set against the time that the frames that are there need not be fetched and written.
import { randomInt } from 'node:crypto'
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { bytesOf } from '../image/blocks.ts'
import { compressFrame, rawBytesOf, sha256Of } from '../image/frames.ts'
import type { Manifest } from '../model/image.ts'
import { type Comparing, isFrameThere } from './compare.ts'
import { lanesOver, together } from './lanes.ts'
import type { OriginBlocks } from './origin-blocks.ts'
import { filledBytes } from './plan.ts'

/** So many frames tell the part that is there to a few percent; no more time is spent than this. */
const sampledFramesMax = 64
const sampleMsMax = 2000

/** What is read at one rate, an SSD takes at about half of it for as long as a disk's worth of writing lasts. */
const ssdWritePart = 0.5

/** A network whose speed nobody knows is taken for one of a gigabit. */
const networkBytesPerSecondDefault = 110_000_000

export type Sample = {
  readonly frames: number
  /** Frames that are there whole. */
  readonly there: number
  /** Which part of what was looked at is there, single blocks of frames too where those can be had. */
  readonly part: number
  /** Frames that want only some blocks, and the seconds that each costs, all lanes at work. */
  readonly mendable: number
  readonly secondsPerMend: number
  /** What is read and hashed. */
  readonly bytesPerSecond: number
  /** What this machine checks, inflates and checks again. */
  readonly inflatedBytesPerSecond: number
}

const decompress = promisify(zstdDecompress)

/** Compares randomly chosen data frames, in as many lanes as a comparison of all has. Throws Failure `disk-error`. */
export async function sampleFrames(
  work: Comparing & { readonly blocks: OriginBlocks | undefined },
  signal: AbortSignal,
): Promise<Sample> {
  const { manifest, buffers, blocks } = work
  // The first holds the partition table, which differs on every disk.
  const candidates = [...manifest.frames.keys()].filter(
    (number) => number > 0 && manifest.frames[number]?.class === 'data',
  )
  const beganMs = performance.now()
  let [frames, there, mendable, bytes, looked, same, askedMs] = [0, 0, 0, 0, 0, 0, 0]
  const look = async (number: number, lane: number, signal: AbortSignal) => {
    const slot = buffers.raw[lane]
    if (slot === undefined) throw new Error(`no buffer for lane ${lane}`)
    if (performance.now() - beganMs > sampleMsMax) return
    const isThere = await isFrameThere(work, number, slot)
    frames += 1
    there += Number(isThere)
    bytes += filledBytes(manifest, number)
    looked += rawBytesOf(manifest, number)
    const raw = slot.subarray(0, rawBytesOf(manifest, number))
    if (isThere) same += raw.length
    else {
      const askingMs = performance.now()
      const set = await blocks?.missing(number, raw, signal)
      askedMs += performance.now() - askingMs
      if (set === undefined) return
      mendable += 1
      same += raw.length - bytesOf(set, raw.length)
    }
  }
  const lanes = buffers.raw.length
  await together(signal, lanesOver(lanes, draw(candidates, sampledFramesMax), look))
  // Lanes ask side by side, and read meanwhile.
  const elapsedMs = Math.max(1, performance.now() - beganMs - askedMs / lanes)
  const inflatedBytesPerSecond = frames === 0 ? 0 : await inflatingRate(buffers.raw)
  const part = same / Math.max(1, looked)
  // For its sums the origin inflates a frame, and for its blocks it does so again.
  const secondsPerMend = (2 * askedMs) / Math.max(1, frames - there) / lanes / 1000
  const bytesPerSecond = (bytes * 1000) / elapsedMs
  return { frames, there, part, mendable, secondsPerMend, bytesPerSecond, inflatedBytesPerSecond }
}

/** How fast all lanes together turn stored bytes into these disk bytes: seldom what a deployment waits for, but on small machines. */
async function inflatingRate(raws: readonly Buffer[]): Promise<number> {
  const stored = await Promise.all(raws.map((raw) => compressFrame(raw)))
  const beganMs = performance.now()
  const work = stored.map(async ({ bytes }) => {
    await sha256Of(bytes)
    return sha256Of(await decompress(bytes))
  })
  await Promise.all(work)
  const bytes = raws.reduce((sum, { length }) => sum + length, 0)
  return (bytes * 1000) / Math.max(1, performance.now() - beganMs)
}

/** So many of `numbers`, each at most once, in random order. */
function draw(numbers: readonly number[], count: number): number[] {
  const left = [...numbers]
  const drawn: number[] = []
  while (left.length > 0 && drawn.length < count) drawn.push(...left.splice(randomInt(left.length), 1))
  return drawn
}

/** What is known of the way to the disk. */
export type Speeds = { readonly rotational: boolean; readonly networkBytesPerSecond: number | undefined }

export type Decision = { readonly isDifference: boolean; readonly text: string }

/**
 * Comparing pays when the part that is there is larger than what reading and mending cost of what a full deployment costs, which
 * is the slowest one of fetching, inflating and writing. A rotating disk is taken to write as fast as it reads. `networkBytesPerSecond`
 * undefined: nobody knows.
 */
export function judgeSample(
  manifest: Manifest,
  sample: Sample,
  { rotational, networkBytesPerSecond = networkBytesPerSecondDefault }: Speeds,
): Decision {
  const { frames, there, part, bytesPerSecond } = sample
  let [storedBytes, dataBytes, comparedBytes, dataFrames] = [0, 0, 0, 0]
  manifest.frames.forEach((frame, number) => {
    const bytes = filledBytes(manifest, number)
    comparedBytes += bytes
    if (frame.class !== 'data') return
    storedBytes += frame.length
    dataBytes += bytes
    dataFrames += 1
  })
  if (frames === 0) return { isDifference: false, text: 'full: the image has no frames to sample' }
  const readSeconds = comparedBytes / bytesPerSecond
  const fetchSeconds = storedBytes / networkBytesPerSecond
  const inflateSeconds = dataBytes / sample.inflatedBytesPerSecond
  const writeSeconds = dataBytes / (rotational ? bytesPerSecond : bytesPerSecond * ssdWritePart)
  const mendSeconds = (sample.mendable / frames) * dataFrames * sample.secondsPerMend
  const breakEven = (readSeconds + mendSeconds) / Math.max(fetchSeconds, inflateSeconds, writeSeconds)
  const isDifference = part > breakEven
  const text =
    `${isDifference ? 'difference' : 'full'}: ${there} of ${frames} sampled frames are here already, and ` +
    `${(part * 100).toFixed(1)} % of their bytes; comparing pays from ${Math.round(breakEven * 100)} % on (reading all takes ` +
    `${readSeconds.toFixed(1)} s, mending ${mendSeconds.toFixed(1)} s, fetching ${fetchSeconds.toFixed(1)} s, inflating ${inflateSeconds.toFixed(1)} s, writing ` +
    `${writeSeconds.toFixed(1)} s)`
  return { isDifference, text }
}
