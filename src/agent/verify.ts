// Reads back what was written and compares it with the manifest. With direct I/O it is the disk that answers; only what
// came through here may be called done.
import { isZero, rawBytesOf, sha256Of } from '../image/frames.ts'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { OpenDisk } from './disk.ts'
import { lanesOver, together } from './lanes.ts'
import { freeFrameBytes, headBytesMax } from './plan.ts'
import { readRanges } from './read-frame.ts'
import type { Buffers } from './write.ts'

/**
 * Reads the whole image back but for its first MiB, for which `buffers.head` stands in, and for free blocks, which count as
 * zeros; compares each frame. Gives the bytes that were read. Throws Failure `disk-error` naming the frame that differs, or with offset and errno.
 */
export async function readBack(
  work: {
    readonly disk: OpenDisk
    readonly manifest: Manifest
    readonly buffers: Buffers
    readonly onProgress: (doneBytes: number) => void
  },
  signal: AbortSignal,
): Promise<number> {
  const { disk, manifest, buffers } = work
  let readBytes = 0
  let doneBytes = freeFrameBytes(manifest)
  const check = async (number: number, lane: number) => {
    const slot = buffers.raw[lane]
    if (slot === undefined) throw new Error(`no buffer for lane ${lane}`)
    const length = rawBytesOf(manifest, number)
    const kept = number === 0 ? Math.min(length, headBytesMax) : 0
    buffers.head.copy(slot, 0, 0, kept)
    const bytes = await readRanges(disk, manifest, number, slot, kept)
    await compare(disk, manifest, number, slot.subarray(0, length))
    readBytes += bytes
    doneBytes += length - kept
    work.onProgress(doneBytes)
  }
  const filled = [...manifest.frames.keys()].filter((number) => manifest.frames[number]?.class !== 'free')
  await together(signal, lanesOver(buffers.raw.length, filled, check))
  return readBytes
}

/** Reads the first frame back, head and all. Gives the bytes that were read. Throws Failure `disk-error`. */
export async function readBackFirstFrame(disk: OpenDisk, manifest: Manifest, slot: Buffer): Promise<number> {
  const length = rawBytesOf(manifest, 0)
  const readBytes = await readRanges(disk, manifest, 0, slot, 0)
  await compare(disk, manifest, 0, slot.subarray(0, length))
  return readBytes
}

async function compare(disk: OpenDisk, manifest: Manifest, number: number, raw: Buffer): Promise<void> {
  const frame = manifest.frames[number]
  const place = `frame ${number} (offset ${number * manifest.frameSizeBytes}) of ${disk.path}`
  if (frame?.class === 'data') {
    const sha256 = await sha256Of(raw)
    if (sha256 === frame.rawSha256) return
    throw new Failure('disk-error', `${place} reads back with SHA-256 ${sha256}, written was ${frame.rawSha256}`)
  }
  if (!isZero(raw)) throw new Failure('disk-error', `${place} should read back as zeros and does not`)
}
