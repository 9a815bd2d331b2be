// Small images and places for them, for tests: a disk of a GPT, random data and zeros, in the format of src/image.
import { randomBytes } from 'node:crypto'
import { mkdtemp, open, readFile, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { compressFrame, encodeSeekTable, rawBytesOf } from '../image/frames.ts'
import { digestOf, encodeManifest } from '../image/manifest.ts'
import { type LoopDevice, openLoop, unmount } from '../lib/block-devices.ts'
import { type BlockRun, blockBytes, frameSizeBytes, type Manifest, type ManifestFrame } from '../model/image.ts'

export type TestImage = {
  readonly raw: Buffer
  readonly imageZst: Buffer
  readonly manifest: Manifest
  readonly manifestBytes: Buffer
  readonly digest: string
}

/** Publishes a raw disk. `runs` are what of each frame matters, where that is not all; the rest of `raw` must be zeros. */
export async function publish(
  raw: Buffer,
  sectorBytes: 512 | 4096 = 512,
  runs: readonly (readonly BlockRun[] | undefined)[] = [],
): Promise<TestImage> {
  const frames: ManifestFrame[] = []
  const parts: Buffer[] = []
  let offset = 0
  for (let at = 0; at < raw.length; at += frameSizeBytes) {
    const frame = await compressFrame(raw.subarray(at, at + frameSizeBytes), runs[frames.length])
    const { bytes, ...rest } = frame
    frames.push({ offset, length: bytes.length, ...rest })
    parts.push(frame.bytes)
    offset += frame.bytes.length
  }
  const size = { sizeBytes: raw.length, frameSizeBytes }
  const entries = frames.map((frame, number) => ({ stored: frame.length, raw: rawBytesOf(size, number) }))
  const imageZst = Buffer.concat([...parts, encodeSeekTable(entries)])
  const version = runs.length > 0 ? ({ format: 2, kind: 'disk' } as const) : ({ format: 1 } as const)
  const manifest: Manifest = { ...version, ...size, storedBytes: imageZst.length, sectorBytes, frames }
  const manifestBytes = encodeManifest(manifest)
  return { raw, imageZst, manifest, manifestBytes, digest: digestOf(manifestBytes) }
}

/** Bytes of which a quarter is random, in runs of 16: they compress to a little more than a quarter. */
export function quarterRandom(bytes: number): Buffer {
  const raw = Buffer.alloc(bytes)
  const random = randomBytes(Math.ceil(bytes / 4))
  for (let at = 0; at < bytes; at += 64) random.copy(raw, at, at / 4, at / 4 + 16)
  return raw
}

/** Zeros in `raw` where `runs` leave out something. */
export function clearFree(raw: Buffer, runs: readonly (readonly BlockRun[] | undefined)[]): Buffer {
  for (const [number, kept] of runs.entries()) {
    if (kept === undefined) continue
    const frame = raw.subarray(number * frameSizeBytes, (number + 1) * frameSizeBytes)
    const whole = Buffer.from(frame)
    frame.fill(0)
    for (const [first, count] of kept) {
      whole.copy(frame, first * blockBytes, first * blockBytes, (first + count) * blockBytes)
    }
  }
  return raw
}

/**
 * A raw disk of `data` and `zero` frames, the first of them with a GPT whose partition 1 is an EFI system partition. The
 * GPT is sgdisk's, for sectors of 512 bytes.
 */
export async function rawDisk(folder: string, classes: readonly ('data' | 'zero')[], tailBytes = 0): Promise<Buffer> {
  const path = join(folder, 'source.raw')
  const file = await open(path, 'w')
  for (const [number, kind] of classes.entries()) {
    if (kind === 'data') await file.write(quarterRandom(frameSizeBytes), 0, frameSizeBytes, number * frameSizeBytes)
  }
  await file.close()
  await truncate(path, classes.length * frameSizeBytes + tailBytes)
  if (classes[0] === 'data') {
    await execa('sgdisk', ['--clear', '--new=1:2048:4095', '--typecode=1:ef00', path])
  }
  return readFile(path)
}

/**
 * A new folder in memory: what is written and flushed here does not wait for the machine's own disk. `remove` takes it
 * away.
 */
export async function ownFolder(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-agent-'))
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=1g', 'hades-agent-test', folder])
  const remove = async () => {
    await unmount(folder)
    await rm(folder, { recursive: true })
  }
  return { folder, remove }
}

/** A loop block device over a new file of `sizeBytes` full of 0xa5; `detach` gives the device back. */
export async function attachLoop(path: string, sizeBytes: number, sectorBytes: 512 | 4096): Promise<LoopDevice> {
  const file = await open(path, 'w')
  const rubbish = Buffer.alloc(1024 * 1024, 0xa5)
  for (let at = 0; at < sizeBytes; at += rubbish.length)
    await file.write(rubbish, 0, Math.min(rubbish.length, sizeBytes - at), at)
  await file.close()
  const loop = await openLoop(path, ['--partscan', '--sector-size', String(sectorBytes)])
  // A device that was made read-only stays so, whatever file it is given next.
  await execa('blockdev', ['--setrw', loop.device])
  return loop
}
