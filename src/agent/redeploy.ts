// Whether it pays to compare what a disk holds before anything is fetched: a few frames are looked at, and the time to read
// the whole image back is set against the time that the frames that are there need not be fetched and written.
import { randomInt } from 'node:crypto'
import type { Manifest } from '../model/image.ts'
import { type Comparing, isFrameThere } from './compare.ts'
import { filledBytes } from './plan.ts'

/** So many frames tell the part that is there to a few percent; no more time is spent than this. */
const sampledFramesMax = 64
const sampleMsMax = 2000

/** A network whose speed nobody knows is taken for one of a gigabit. */
const networkBytesPerSecondDefault = 110_000_000

export type Sample = {
  readonly frames: number
  readonly there: number
  readonly bytesPerSecond: number
}

/** Compares randomly chosen data frames, one after the other. Throws Failure `disk-error`. */
export async function sampleFrames(work: Comparing, signal: AbortSignal): Promise<Sample> {
  const { manifest, buffers } = work
  const [slot] = buffers.raw
  if (slot === undefined) throw new Error('no lane has a buffer')
  // The first holds the partition table, which differs on every disk.
  const candidates = [...manifest.frames.keys()].filter(
    (number) => number > 0 && manifest.frames[number]?.class === 'data',
  )
  const beganMs = performance.now()
  let [frames, there, bytes] = [0, 0, 0]
  while (candidates.length > 0 && frames < sampledFramesMax && performance.now() - beganMs < sampleMsMax) {
    signal.throwIfAborted()
    const at = randomInt(candidates.length)
    const number = candidates[at] ?? 0
    candidates[at] = candidates.at(-1) ?? 0
    candidates.pop()
    if (await isFrameThere(work, number, slot)) there += 1
    frames += 1
    bytes += filledBytes(manifest, number)
  }
  const elapsedMs = Math.max(1, performance.now() - beganMs)
  return { frames, there, bytesPerSecond: (bytes * 1000) / elapsedMs }
}

export type Decision = { readonly isDifference: boolean; readonly text: string }

/**
 * Comparing pays when the part that is there is larger than what reading costs of what a full deployment costs, which is the
 * slower one of fetching and writing. A disk is taken to write as fast as it reads. `networkBytesPerSecond` undefined:
 * nobody knows.
 */
export function judgeSample(
  manifest: Manifest,
  { frames, there, bytesPerSecond }: Sample,
  networkBytesPerSecond: number = networkBytesPerSecondDefault,
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
  const writeSeconds = dataBytes / bytesPerSecond
  const part = there / frames
  const breakEven = readSeconds / Math.max(fetchSeconds, writeSeconds)
  const isDifference = part > breakEven
  const text =
    `${isDifference ? 'difference' : 'full'}: ${there} of ${frames} sampled frames are here already; comparing pays ` +
    `from ${Math.round(breakEven * 100)} % on (reading all takes ${readSeconds.toFixed(1)} s, fetching ` +
    `${fetchSeconds.toFixed(1)} s, writing ${writeSeconds.toFixed(1)} s)`
  return { isDifference, text }
}
