// Whether it pays to compare what a disk holds before anything is fetched: a few frames are looked at, and the time to read
// the whole image back is set against the time that the frames that are there need not be fetched and written.
import { randomInt } from 'node:crypto'
import type { Manifest } from '../model/image.ts'
import { type Comparing, isFrameThere } from './compare.ts'
import { lanesOver, together } from './lanes.ts'
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
  readonly there: number
  readonly bytesPerSecond: number
}

/** Compares randomly chosen data frames, in as many lanes as a comparison of all has. Throws Failure `disk-error`. */
export async function sampleFrames(work: Comparing, signal: AbortSignal): Promise<Sample> {
  const { manifest, buffers } = work
  // The first holds the partition table, which differs on every disk.
  const candidates = [...manifest.frames.keys()].filter(
    (number) => number > 0 && manifest.frames[number]?.class === 'data',
  )
  const beganMs = performance.now()
  let [frames, there, bytes] = [0, 0, 0]
  const look = async (number: number, lane: number) => {
    const slot = buffers.raw[lane]
    if (slot === undefined) throw new Error(`no buffer for lane ${lane}`)
    if (performance.now() - beganMs > sampleMsMax) return
    const isThere = await isFrameThere(work, number, slot)
    frames += 1
    there += Number(isThere)
    bytes += filledBytes(manifest, number)
  }
  await together(signal, lanesOver(buffers.raw.length, draw(candidates, sampledFramesMax), look))
  const elapsedMs = Math.max(1, performance.now() - beganMs)
  return { frames, there, bytesPerSecond: (bytes * 1000) / elapsedMs }
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
 * Comparing pays when the part that is there is larger than what reading costs of what a full deployment costs, which is the
 * slower one of fetching and writing. A rotating disk is taken to write as fast as it reads. `networkBytesPerSecond`
 * undefined: nobody knows.
 */
export function judgeSample(
  manifest: Manifest,
  { frames, there, bytesPerSecond }: Sample,
  { rotational, networkBytesPerSecond = networkBytesPerSecondDefault }: Speeds,
): Decision {
  let [storedBytes, dataBytes, comparedBytes] = [0, 0, 0]
  manifest.frames.forEach((frame, number) => {
    const bytes = filledBytes(manifest, number)
    comparedBytes += bytes
    if (frame.class !== 'data') return
    storedBytes += frame.length
    dataBytes += bytes
  })
  if (frames === 0) return { isDifference: false, text: 'full: the image has no frames to sample' }
  const readSeconds = comparedBytes / bytesPerSecond
  const fetchSeconds = storedBytes / networkBytesPerSecond
  const writeSeconds = dataBytes / (rotational ? bytesPerSecond : bytesPerSecond * ssdWritePart)
  const part = there / frames
  const breakEven = readSeconds / Math.max(fetchSeconds, writeSeconds)
  const isDifference = part > breakEven
  const text =
    `${isDifference ? 'difference' : 'full'}: ${there} of ${frames} sampled frames are here already; comparing pays ` +
    `from ${Math.round(breakEven * 100)} % on (reading all takes ${readSeconds.toFixed(1)} s, fetching ` +
    `${fetchSeconds.toFixed(1)} s, writing ${writeSeconds.toFixed(1)} s)`
  return { isDifference, text }
}
