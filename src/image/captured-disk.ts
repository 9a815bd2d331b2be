// A disk that is coming in from a host, frame by frame, in order: one file beside the library's images, of zstd frames one
// behind the other, which is a zstd file that importImage reads like any other. How much of it counts is in the database; what
// the file has beyond that is what a process wrote before it died, and is cut off by the next frame.
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, invariant } from '../model/failure.ts'
import { frameSizeBytes } from '../model/image.ts'
import { compressFrame, frameStoredBytesMax, inflateFrame, sha256Of } from './frames.ts'
import { type Library, syncFolder } from './library.ts'
import { checkSpace, isErrno } from './library-file.ts'

function folderOf({ folder }: Library): string {
  return join(folder, 'captures')
}

/** Where the disk of this deployment comes in. */
export function capturedDiskPath(library: Library, deployment: number): string {
  invariant(Number.isSafeInteger(deployment) && deployment > 0, `deployment ${deployment}`)
  return join(folderOf(library), `${deployment}.zst`)
}

/**
 * Writes `bytes` at `offset` and cuts off what was behind it; resolves when they are on the volume. Throws Failure
 * `library-full`, or `internal` when the file is shorter than `offset`.
 */
export async function writeCaptured(
  library: Library,
  deployment: number,
  { offset, bytes }: { readonly offset: number; readonly bytes: Buffer },
): Promise<void> {
  const path = capturedDiskPath(library, deployment)
  try {
    await mkdir(folderOf(library), { recursive: true })
    await checkSpace(folderOf(library))
    const isNew = offset === 0
    const file = await open(path, isNew ? 'w' : 'r+', 0o600)
    try {
      if (!isNew) {
        const { size } = await file.stat()
        if (size < offset) throw new Failure('internal', `${path} has ${size} bytes, and ${offset} were to be in it`)
        if (size > offset) await file.truncate(offset)
      }
      for (let done = 0; done < bytes.length; ) {
        done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten
      }
      await file.datasync()
    } finally {
      await file.close()
    }
    if (isNew) await syncFolder(folderOf(library))
  } catch (cause) {
    if (isErrno(cause, 'ENOSPC', 'EDQUOT')) {
      throw new Failure('library-full', 'the volume of the image library is full', { cause, at: path })
    }
    throw cause
  }
}

/** Bytes that have come, 0 when nothing has. */
export async function capturedBytes(library: Library, deployment: number): Promise<number> {
  try {
    return (await stat(capturedDiskPath(library, deployment))).size
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 0
    throw error
  }
}

/** The deployments whose disks lie here. */
export async function capturedDisks(library: Library): Promise<number[]> {
  const names = await readdir(folderOf(library)).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  return names.flatMap((name) => (/^[1-9]\d{0,14}\.zst$/.test(name) ? [Number.parseInt(name, 10)] : []))
}

export async function removeCaptured(library: Library, deployment: number): Promise<void> {
  await rm(capturedDiskPath(library, deployment), { force: true })
}

/**
 * Checks a frame that came in: its hash, that it inflates to exactly the bytes that frame `number` of a disk of `sizeBytes`
 * has, and their hash. Throws Failure `bad-input` that says which is wrong.
 */
export async function checkCapturedFrame(
  sizeBytes: number,
  number: number,
  frame: { readonly bytes: Buffer; readonly sha256: string; readonly rawSha256: string },
): Promise<void> {
  const frames: Parameters<typeof inflateFrame>[0]['frames'][number][] = []
  const { bytes, sha256, rawSha256 } = frame
  frames[number] = { class: 'data', offset: 0, length: bytes.length, sha256, rawSha256 }
  const manifest = {
    format: 1,
    sizeBytes,
    frameSizeBytes,
    storedBytes: bytes.length,
    sectorBytes: 512,
    frames,
  } as const
  const raw = await inflateFrame(manifest, number, bytes).catch((cause: unknown) => {
    throw new Failure('bad-input', `frame ${number} was damaged on its way`, { cause, at: `frame ${number}` })
  })
  const found = await sha256Of(raw)
  if (found === rawSha256) return
  const words = `frame ${number} holds disk bytes of SHA-256 ${found}, and ${rawSha256} was said`
  throw new Failure('bad-input', words, { at: `frame ${number}` })
}

/** The frames of `count` times `rawBytes` zeros, and the SHA-256 of the zeros of one. */
export async function zeroFrames(rawBytes: number, count: number): Promise<{ bytes: Buffer; rawSha256: string }> {
  const zeros = Buffer.alloc(rawBytes)
  const { bytes } = await compressFrame(zeros)
  return { bytes: Buffer.concat(Array.from({ length: count }, () => bytes)), rawSha256: await sha256Of(zeros) }
}

/** No frame that comes in is longer. */
export const capturedFrameBytesMax = frameStoredBytesMax
