// One image.zst is independent zstd frames (RFC 8878), one for each `frameSizeBytes` of disk, and behind them the seek
// table of the zstd seekable format 0.1.0. This file makes and reads single frames; import.ts puts them in a row, and
// the agent inflates them as they arrive. No files, no sockets.
import { promisify } from 'node:util'
import { constants, zstdCompress, zstdDecompress } from 'node:zlib'
import { Failure, invariant } from '../model/failure.ts'
import { type BlockRun, blockBytes, frameSizeBytes, type Manifest, type ManifestFrame } from '../model/image.ts'

/** A compressed frame and what the manifest says of it, but for its place. */
export type CompressedFrame =
  | {
      readonly class: 'data'
      readonly bytes: Buffer
      readonly sha256: string
      readonly rawSha256: string
      readonly extents?: readonly BlockRun[]
    }
  | { readonly class: 'zero' | 'free'; readonly bytes: Buffer }

/** One row of the seek table: the sizes of one frame, compressed and raw, in bytes. */
export type SeekEntry = { readonly stored: number; readonly raw: number }

/** A frame cannot be longer than this: ZSTD_compressBound of 4 MiB, header and checksum, rounded up. */
export const frameStoredBytesMax = frameSizeBytes + 64 * 1024

const compress = promisify(zstdCompress)
const decompress = promisify(zstdDecompress)
const zeros = Buffer.alloc(frameSizeBytes)

/** True when every byte of `raw`, of at most one frame, is zero. */
export function isZero(raw: Buffer): boolean {
  return raw.equals(raw.length === zeros.length ? zeros : zeros.subarray(0, raw.length))
}

/** SHA-256 in lower-case hex, computed off the main thread so that a server keeps answering beside it. */
export async function sha256Of(bytes: Buffer): Promise<string> {
  // A Buffer here is never backed by shared memory; the type of Buffer cannot say so.
  const digest = await crypto.subtle.digest('SHA-256', bytes as Buffer<ArrayBuffer>)
  return Buffer.from(digest).toString('hex')
}

/**
 * Compresses disk bytes (1 to `frameSizeBytes`) into one frame of level 3 with its content size and checksum, so that
 * `zstd -d` allocates right and checks what it wrote. `runs` are what of it matters, all of it unless given; the rest of
 * `raw` must be zeros.
 */
export async function compressFrame(raw: Buffer, runs?: readonly BlockRun[]): Promise<CompressedFrame> {
  invariant(raw.length > 0 && raw.length <= frameSizeBytes, `a frame of ${raw.length} bytes`)
  if (runs?.length === 0) return { class: 'free', bytes: await zeroFrame(raw.length) }
  if (isZero(raw)) return { class: 'zero', bytes: await zeroFrame(raw.length) }
  const [rawSha256, bytes] = await Promise.all([sha256Of(raw), compressBytes(raw)])
  const isWhole = runs === undefined || runs[0]?.[1] === Math.ceil(raw.length / blockBytes)
  return { class: 'data', bytes, sha256: await sha256Of(bytes), rawSha256, ...(isWhole ? {} : { extents: runs }) }
}

let wholeZeroFrame: Promise<Buffer> | undefined

/** The frame of `length` zero bytes. A disk is mostly these, all but the last of one size: that one is kept. */
function zeroFrame(length: number): Promise<Buffer> {
  if (length < frameSizeBytes) return compressBytes(zeros.subarray(0, length))
  wholeZeroFrame ??= compressBytes(zeros)
  return wholeZeroFrame
}

function compressBytes(raw: Buffer): Promise<Buffer> {
  return compress(raw, {
    // One output buffer that always suffices: smaller ones cost a copy of the frame.
    chunkSize: frameStoredBytesMax,
    pledgedSrcSize: raw.length,
    params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
  })
}

/** How many disk bytes frame `number` of the manifest holds: `frameSizeBytes` but for the last. */
export function rawBytesOf(manifest: Pick<Manifest, 'sizeBytes' | 'frameSizeBytes'>, number: number): number {
  return Math.min(manifest.frameSizeBytes, manifest.sizeBytes - number * manifest.frameSizeBytes)
}

/** What of the disk bytes of a frame must be written, as places in the frame, in order: all but its free blocks. */
export function writtenRanges(manifest: Manifest, number: number): { offset: number; length: number }[] {
  const rawBytes = rawBytesOf(manifest, number)
  const frame = manifest.frames[number]
  if (frame?.class === 'free') return []
  if (frame?.class !== 'data' || frame.extents === undefined) return [{ offset: 0, length: rawBytes }]
  return frame.extents.map(([first, count]) => {
    const offset = first * blockBytes
    return { offset, length: Math.min(count * blockBytes, rawBytes - offset) }
  })
}

/**
 * Gives the disk bytes of frame `number` from its bytes in image.zst. What is passed on or written must have come
 * through here: the SHA-256 of `compressed` is checked before a byte is inflated, inflating stops at the size that the
 * manifest promises, and a `zero` or `free` frame must hold zeros. Throws Failure `image-corrupt`, `at` `frame <number>`.
 */
export async function inflateFrame(manifest: Manifest, number: number, compressed: Buffer): Promise<Buffer> {
  const frame = manifest.frames[number]
  invariant(frame !== undefined, `frame ${number} of ${manifest.frames.length}`)
  await checkFrame(manifest, number, compressed)
  const expected = rawBytesOf(manifest, number)
  const raw = await decompress(compressed, {
    chunkSize: Math.max(64, expected),
    maxOutputLength: expected,
    rejectGarbageAfterEnd: true,
    // 2^22 is 4 MiB: a frame cannot need to look back further than its own content.
    params: { [constants.ZSTD_d_windowLogMax]: 22 },
  }).catch((cause: unknown) => {
    throw corrupt(number, `does not inflate to ${expected} bytes`, cause)
  })
  if (raw.length !== expected) throw corrupt(number, `inflates to ${raw.length} bytes, not ${expected}`)
  if (frame.class !== 'data' && !isZero(raw)) throw corrupt(number, 'should hold zeros and does not')
  return raw
}

/**
 * Checks the bytes of frame `number` as they are in image.zst, without inflating them: length and, for a data frame,
 * SHA-256. Throws Failure `image-corrupt`.
 */
export async function checkFrame(manifest: Manifest, number: number, compressed: Buffer): Promise<void> {
  const frame: ManifestFrame | undefined = manifest.frames[number]
  invariant(frame !== undefined, `frame ${number} of ${manifest.frames.length}`)
  if (compressed.length !== frame.length) {
    throw corrupt(number, `has ${compressed.length} bytes, the manifest says ${frame.length}`)
  }
  if (frame.class !== 'data') return
  const sha256 = await sha256Of(compressed)
  if (sha256 !== frame.sha256) throw corrupt(number, `has SHA-256 ${sha256}, the manifest says ${frame.sha256}`)
}

/** The failure that says what is wrong with frame `number`. */
export function corrupt(number: number, what: string, cause?: unknown): Failure {
  return new Failure('image-corrupt', `frame ${number} of the image ${what}`, { cause, at: `frame ${number}` })
}

const skippableMagic = 0x184d2a5e
const seekableMagic = 0x8f92eab1

/** Bytes of the seek table of `frames` frames. */
export function seekTableBytes(frames: number): number {
  return 8 + 8 * frames + 9
}

/**
 * The seek table: a skippable frame with a row for each frame and a footer, without the optional checksums, because
 * the manifest has better ones. zstd seekable format 0.1.0, "Seek_Table".
 */
export function encodeSeekTable(entries: readonly SeekEntry[]): Buffer {
  const table = Buffer.alloc(seekTableBytes(entries.length))
  table.writeUInt32LE(skippableMagic, 0)
  table.writeUInt32LE(table.length - 8, 4)
  let at = 8
  for (const entry of entries) {
    table.writeUInt32LE(entry.stored, at)
    table.writeUInt32LE(entry.raw, at + 4)
    at += 8
  }
  table.writeUInt32LE(entries.length, at)
  table.writeUInt8(0, at + 4)
  table.writeUInt32LE(seekableMagic, at + 5)
  return table
}
