// The image library: a folder with one folder per image, named by its digest, that holds `image.zst`, `manifest.json`
// and, for the swarm, `forms`. An image appears and disappears by one rename, so whoever finds the folder finds it whole.
// What is being made lies in `incoming/`, named for the process that makes it, and is swept when that process is dead.
import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import { corrupt, encodeSeekTable, inflateFrame, rawBytesOf, sha256Of } from './frames.ts'
import { isErrno } from './library-file.ts'
import { manifestBytesMax, parseManifest } from './manifest.ts'

export type Library = {
  readonly folder: string
  /** What all images together may have, in bytes; undefined for no bound. */
  readonly quotaBytes?: number | undefined
}

export type ImagePaths = {
  readonly folder: string
  readonly image: string
  readonly manifest: string
  /** What forms.ts keeps of the image's bytes; an image may be without. */
  readonly forms: string
}

/**
 * Opens the library in `folder`, which is made if missing, and removes what dead processes left in `incoming/`.
 * Several processes, also of several machines, may have one library open.
 */
export async function openLibrary(folder: string, quotaBytes?: number): Promise<Library> {
  const library: Library = { folder, quotaBytes }
  await mkdir(incomingOf(library), { recursive: true })
  await sweepIncoming(library)
  return library
}

/** Removes what dead processes left in `incoming/`, and gives how much that was. */
export async function sweepIncoming(library: Library): Promise<number> {
  let removed = 0
  for (const name of await readdir(incomingOf(library))) {
    const path = join(incomingOf(library), name)
    if (!(await isAbandoned(name, path))) continue
    await rm(path, { recursive: true, force: true })
    removed++
  }
  return removed
}

/** Every image in the library, named or not, with the bytes of its files. */
export async function storedImages(library: Library): Promise<{ digest: string; storedBytes: number }[]> {
  const digests = (await readdir(library.folder)).filter((name) => /^[0-9a-f]{64}$/.test(name))
  const images: { digest: string; storedBytes: number }[] = []
  for (const digest of digests) {
    const { folder } = imagePaths(library, digest)
    let storedBytes = 0
    const names = await ifThere(readdir(folder))
    for (const name of names ?? []) storedBytes += (await ifThere(stat(join(folder, name))))?.size ?? 0
    if (names !== undefined) images.push({ digest, storedBytes })
  }
  return images
}

/** Undefined for what was removed while we looked. */
async function ifThere<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Where the files of an image are, whether it exists or not. Throws Failure `unknown-image` when it is no digest. */
export function imagePaths(library: Library, digest: string): ImagePaths {
  // The digest comes from requests and becomes a path: nothing but 64 hex digits may pass.
  if (!/^[0-9a-f]{64}$/.test(digest)) {
    throw new Failure('unknown-image', `${JSON.stringify(digest.slice(0, 80))} is not the digest of an image`)
  }
  const folder = join(library.folder, digest)
  return {
    folder,
    image: join(folder, 'image.zst'),
    manifest: join(folder, 'manifest.json'),
    forms: join(folder, 'forms'),
  }
}

/** Reads and checks the manifest of an image. Throws Failure `unknown-image` or `image-corrupt`. */
export async function readManifest(library: Library, digest: string): Promise<Manifest> {
  const { manifest } = imagePaths(library, digest)
  try {
    const { size } = await stat(manifest)
    if (size > manifestBytesMax) throw new Failure('image-corrupt', `${manifest} has ${size} bytes`, { at: 'manifest' })
    return parseManifest(await readFile(manifest), digest)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) {
      throw new Failure('unknown-image', `the library holds no image ${digest}`, { cause: error })
    }
    throw error
  }
}

/** Removes an image; whoever has its files open can read on. Throws Failure `unknown-image` when there is none. */
export async function removeImage(library: Library, digest: string): Promise<void> {
  const { folder } = imagePaths(library, digest)
  const grave = await makeIncoming(library)
  try {
    await rename(folder, grave)
    await syncFolder(library.folder)
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT')) throw cause
    throw new Failure('unknown-image', `the library holds no image ${digest}`, { cause })
  } finally {
    await rm(grave, { recursive: true, force: true })
  }
}

/**
 * Reads an image whole and checks all that the manifest says of it: every frame's hash, what it inflates to, the seek
 * table, the size. Throws Failure `image-corrupt` that names the first broken frame, or `unknown-image`.
 */
export async function verifyImage(
  library: Library,
  digest: string,
  options: { signal?: AbortSignal; onFrame?: (number: number) => void } = {},
): Promise<Manifest> {
  const manifest = await readManifest(library, digest)
  const file = await openStored(imagePaths(library, digest).image, manifest.storedBytes)
  try {
    for (const [number, frame] of manifest.frames.entries()) {
      options.signal?.throwIfAborted()
      const raw = await inflateFrame(manifest, number, await readAt(file, frame.offset, frame.length))
      if (frame.class === 'data') {
        const sha256 = await sha256Of(raw)
        if (sha256 !== frame.rawSha256) {
          throw corrupt(number, `inflates to SHA-256 ${sha256}, the manifest says ${frame.rawSha256}`)
        }
      }
      options.onFrame?.(number)
    }
    await readSeekTable(file, manifest)
  } finally {
    await file.close()
  }
  return manifest
}

/** Opens an image.zst that must have `storedBytes` bytes. Throws Failure `image-corrupt`. */
export async function openStored(path: string, storedBytes: number): Promise<FileHandle> {
  const file = await open(path).catch((cause: unknown) => {
    throw new Failure('image-corrupt', `${path} cannot be read`, { cause, at: 'image.zst' })
  })
  const { size } = await file.stat()
  if (size === storedBytes) return file
  await file.close()
  throw new Failure('image-corrupt', `${path} has ${size} bytes, not ${storedBytes}`, { at: 'image.zst' })
}

/** Reads the seek table behind the frames and checks it. Throws Failure `image-corrupt`. */
export async function readSeekTable(file: FileHandle, manifest: Manifest): Promise<Buffer> {
  const rows = manifest.frames.map((frame, number) => ({ stored: frame.length, raw: rawBytesOf(manifest, number) }))
  const expected = encodeSeekTable(rows)
  if (!(await readAt(file, manifest.storedBytes - expected.length, expected.length)).equals(expected)) {
    throw new Failure('image-corrupt', 'the seek table of the image is damaged', { at: 'seek table' })
  }
  return expected
}

/** Reads exactly `length` bytes at `offset`. A file that ends before gives fewer. */
export async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, offset + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}

/** Flushes the names in a folder to the disk. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function incomingOf(library: Library): string {
  return join(library.folder, 'incoming')
}

/** Makes an empty folder in `incoming/` that belongs to this process; the caller renames it into place or removes it. */
export async function makeIncoming(library: Library): Promise<string> {
  const owner = `${process.pid}-${await startTicksOf(process.pid)}-${hostname()}`
  const path = join(incomingOf(library), `${owner}-${randomBytes(6).toString('hex')}`)
  await mkdir(path, { recursive: true })
  return path
}

/** What another machine is making cannot be seen in /proc; untouched for so long it is taken for abandoned. */
const foreignIdleMs = 24 * 60 * 60 * 1000

async function isAbandoned(name: string, path: string): Promise<boolean> {
  const match = /^(\d+)-(\d+)-(.+)-[0-9a-f]{12}$/.exec(name)
  // Not ours: whoever put it there may have a reason.
  if (match === null) return false
  const [, pid, startTicks, host] = match
  if (host === hostname()) return (await startTicksOf(Number(pid))) !== startTicks
  try {
    const files = [path, ...(await readdir(path)).map((file) => join(path, file))]
    const touched = await Promise.all(files.map(async (file) => (await stat(file)).mtimeMs))
    return Date.now() - Math.max(...touched) > foreignIdleMs
  } catch (error) {
    // It ended or went on while we looked: either way it lives.
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/** When a process started, in clock ticks since boot (proc(5), stat, field 22): with it a process id is unambiguous. */
async function startTicksOf(pid: number): Promise<string | undefined> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The second field is the command in parentheses and may itself hold blanks and parentheses.
    return line.slice(line.lastIndexOf(')') + 2).split(' ')[19]
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined
    throw error
  }
}
