// The manifest of an image as bytes. One manifest has one encoding, so that its SHA-256, the digest that names the
// image, means its content; who reads it trusts nothing before the digest and every field have been checked.
import { createHash } from 'node:crypto'
import { Failure } from '../model/failure.ts'
import {
  type BlockRun,
  blockBytes,
  blockRunsMax,
  frameSizeBytes,
  imageKinds,
  type Manifest,
  type ManifestFrame,
} from '../model/image.ts'
import { frameStoredBytesMax, seekTableBytes } from './frames.ts'

/**
 * Frames of one image, at most: 4 TiB of disk. The manifest is read whole, about 220 bytes a data frame and 440 at most,
 * and at this bound it stays below what one JavaScript string can hold (512 MiB).
 */
export const framesMax = 1024 * 1024

/** No manifest is longer, in bytes: a frame's line has at most 450. */
export const manifestBytesMax = 4096 + framesMax * 450

/** The largest disk that can be published, in bytes. */
export const diskBytesMax = framesMax * frameSizeBytes

/** The digest that names an image: SHA-256 of its manifest's bytes, lower-case hex. */
export function digestOf(manifestBytes: Buffer): string {
  return createHash('sha256').update(manifestBytes).digest('hex')
}

/** The canonical bytes: JSON with fixed key order, a line for each frame. */
export function encodeManifest(manifest: Manifest): Buffer {
  const { format, kind, sizeBytes, frameSizeBytes, storedBytes, sectorBytes } = manifest
  // An undefined kind, as in format 1, leaves no trace.
  const head = JSON.stringify({ format, kind, sizeBytes, frameSizeBytes, storedBytes, sectorBytes })
  const parts: Buffer[] = [Buffer.from(`${head.slice(0, -1)},"frames":[\n`)]
  // Encoded in blocks: the lines of the largest manifest as one array of strings would take gigabytes.
  const block = 4096
  for (let from = 0; from < manifest.frames.length; from += block) {
    const lines = manifest.frames
      .slice(from, from + block)
      .map(encodeFrame)
      .join(',\n')
    parts.push(Buffer.from(from + block < manifest.frames.length ? `${lines},\n` : `${lines}\n`))
  }
  parts.push(Buffer.from(']}\n'))
  return Buffer.concat(parts)
}

function encodeFrame(frame: ManifestFrame): string {
  const { offset, length } = frame
  if (frame.class !== 'data') return JSON.stringify({ class: frame.class, offset, length })
  const { sha256, rawSha256, extents } = frame
  return JSON.stringify({ class: 'data', offset, length, sha256, rawSha256, extents })
}

/**
 * Reads a manifest that must have the digest `expectedDigest` (lower-case hex). Checks every field, that the frames
 * lie one behind the other, cover the disk and end where the seek table begins, and that the bytes are the canonical
 * ones. Throws Failure `image-corrupt` that names the field.
 */
export function parseManifest(bytes: Buffer, expectedDigest: string): Manifest {
  if (bytes.length > manifestBytesMax) throw corrupt(`has ${bytes.length} bytes, more than ${manifestBytesMax}`)
  const digest = digestOf(bytes)
  if (digest !== expectedDigest) throw corrupt(`has digest ${digest}, expected ${expectedDigest}`)
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw corrupt('is not JSON', cause)
  }
  const fields = record(value, 'the manifest', [
    'format',
    'kind',
    'sizeBytes',
    'frameSizeBytes',
    'storedBytes',
    'sectorBytes',
    'frames',
  ])
  const format = fields.format
  if (format !== 1 && format !== 2) {
    throw corrupt(`has format ${show(format)}; this version of HaDeS reads formats 1 and 2`)
  }
  const kind = imageKinds.find((known) => known === fields.kind)
  if ((format === 2 && kind === undefined) || (format === 1 && 'kind' in fields)) {
    throw corrupt(`of format ${format} has kind ${show(fields.kind)}`)
  }
  if (fields.frameSizeBytes !== frameSizeBytes) {
    throw corrupt(`has frameSizeBytes ${show(fields.frameSizeBytes)}, not ${frameSizeBytes}`)
  }
  const sectorBytes = fields.sectorBytes
  if (sectorBytes !== 512 && sectorBytes !== 4096) {
    throw corrupt(`has sectorBytes ${show(sectorBytes)}, neither 512 nor 4096`)
  }
  const sizeBytes = wholeNumber(fields.sizeBytes, 'sizeBytes', 1, diskBytesMax)
  const storedBytes = wholeNumber(fields.storedBytes, 'storedBytes', 1, Number.MAX_SAFE_INTEGER)
  const frames = parseFrames(fields.frames, { format, sizeBytes, storedBytes })
  const sizes = { sizeBytes, frameSizeBytes, storedBytes, sectorBytes } as const
  const manifest: Manifest = kind === undefined ? { format, ...sizes, frames } : { format, kind, ...sizes, frames }
  if (!encodeManifest(manifest).equals(bytes)) throw corrupt('is not in its canonical form')
  return manifest
}

function parseFrames(
  value: unknown,
  { format, sizeBytes, storedBytes }: Pick<Manifest, 'format' | 'sizeBytes' | 'storedBytes'>,
): ManifestFrame[] {
  if (!Array.isArray(value)) throw corrupt(`has frames ${show(value)}, not a list`)
  const expected = Math.ceil(sizeBytes / frameSizeBytes)
  if (value.length !== expected) {
    throw corrupt(`has ${value.length} frames; a disk of ${sizeBytes} bytes takes ${expected}`)
  }
  let end = 0
  const frames = value.map((item: unknown, number) => {
    const rawBytes = Math.min(frameSizeBytes, sizeBytes - number * frameSizeBytes)
    const frame = parseFrame(item, `frame ${number}`, format === 1 ? undefined : rawBytes)
    if (frame.offset !== end) {
      throw corrupt(`has frame ${number} at offset ${frame.offset}; the one before it ends at ${end}`)
    }
    end += frame.length
    return frame
  })
  if (end + seekTableBytes(frames.length) !== storedBytes) {
    throw corrupt(
      `has storedBytes ${storedBytes}; its frames end at ${end} and the seek table takes ${seekTableBytes(frames.length)}`,
    )
  }
  return frames
}

/** `rawBytes` where free space may be left out. */
function parseFrame(value: unknown, name: string, rawBytes: number | undefined): ManifestFrame {
  const isData = typeof value === 'object' && value !== null && 'class' in value && value.class === 'data'
  const common = ['class', 'offset', 'length']
  const ofData = ['sha256', 'rawSha256', ...(rawBytes === undefined ? [] : ['extents'])]
  const fields = record(value, name, isData ? [...common, ...ofData] : common)
  const offset = wholeNumber(fields.offset, `${name} offset`, 0, Number.MAX_SAFE_INTEGER)
  const length = wholeNumber(fields.length, `${name} length`, 1, frameStoredBytesMax)
  if (fields.class === 'zero') return { class: 'zero', offset, length }
  if (fields.class === 'free' && rawBytes !== undefined) return { class: 'free', offset, length }
  if (fields.class !== 'data') {
    throw corrupt(`has ${name} of class ${show(fields.class)}, neither data nor zero${rawBytes ? ' nor free' : ''}`)
  }
  const sha256 = sha256Text(fields.sha256, `${name} sha256`)
  const rawSha256 = sha256Text(fields.rawSha256, `${name} rawSha256`)
  const data = { class: 'data', offset, length, sha256, rawSha256 } as const
  if (rawBytes === undefined || fields.extents === undefined) return data
  return { ...data, extents: parseExtents(fields.extents, name, Math.ceil(rawBytes / blockBytes)) }
}

/** Runs of blocks in order, with a gap between any two, that leave out something of the frame. */
function parseExtents(value: unknown, name: string, blocks: number): BlockRun[] {
  const wrong = (what: string) => corrupt(`has ${name} extents ${what}`)
  if (!Array.isArray(value)) throw wrong(`${show(value)}, not a list`)
  if (value.length < 1 || value.length > blockRunsMax) throw wrong(`of ${value.length} runs, not 1 to ${blockRunsMax}`)
  let free = 0
  const runs = value.map((run: unknown, index): BlockRun => {
    if (!Array.isArray(run) || run.length !== 2) throw wrong(`with ${show(run)}, not a block and a count`)
    const first = wholeNumber(run[0], `${name} extents`, index === 0 ? 0 : free + 1, blocks - 1)
    const count = wholeNumber(run[1], `${name} extents`, 1, blocks - first)
    free = first + count
    return [first, count]
  })
  if (runs[0]?.[1] === blocks) throw wrong('that leave nothing out')
  return runs
}

function record(value: unknown, name: string, keys: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw corrupt(`has ${show(value)} for ${name}, not an object`)
  }
  const unknown = Object.keys(value).find((key) => !keys.includes(key))
  if (unknown !== undefined) throw corrupt(`has in ${name} the unknown field ${show(unknown)}`)
  // An object that is no array: its keys are strings and nothing is said of its values.
  return value as Readonly<Record<string, unknown>>
}

function wholeNumber(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw corrupt(`has ${name} ${show(value)}, not a whole number from ${min} to ${max}`)
  }
  return value
}

function sha256Text(value: unknown, name: string): string {
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value)) {
    throw corrupt(`has ${name} ${show(value)}, not 64 lower-case hex digits`)
  }
  return value
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'missing').slice(0, 80)
}

function corrupt(what: string, cause?: unknown): Failure {
  return new Failure('image-corrupt', `the image's manifest ${what}`, { cause, at: 'manifest' })
}
