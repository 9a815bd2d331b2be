// Imports an image: any source that source.ts opens becomes `<library>/<digest>/`. What its file systems call free is found
// first and left out. Until the last rename everything lies in the library's `incoming/`, so whatever goes wrong leaves nothing.
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../model/failure.ts'
import { type BlockRun, frameSizeBytes, type ImageKind, type Manifest, type ManifestFrame } from '../model/image.ts'
import type { TarCounts } from '../protocol/tar.ts'
import { computeForms, writeForms } from './forms.ts'
import { type CompressedFrame, compressFrame, encodeSeekTable, type SeekEntry } from './frames.ts'
import type { FreeMap } from './free-map.ts'
import { findFreeSpace, type VolumeReport } from './free-space.ts'
import { imagePaths, type Library, makeIncoming, syncFolder, verifyImage } from './library.ts'
import { isErrno, LibraryFile } from './library-file.ts'
import { digestOf, encodeManifest } from './manifest.ts'
import { readUsed } from './read-used.ts'
import { type ImageSource, openImage } from './source.ts'
import type { Content } from './volume.ts'

export type ImportProgress = {
  /** Of the source, packed as it may be: what is packed or uploaded is read to its end first. */
  readonly readBytes: number
  /** Of the disk, compressed and written. */
  readonly diskBytes: number
  /** Of the whole disk, once that is known. */
  readonly diskBytesTotal: number | undefined
  readonly storedBytes: number
}

export type ImportOptions = {
  /** Path of a file, folder or block device, or the bytes as they come. */
  readonly source: ImageSource
  /** What it is taken for; by its content unless given. */
  readonly kind?: ImageKind | undefined
  /** What it is packed in holds the bytes of a disk and no other form of image; looked at unless given. */
  readonly isRaw?: boolean | undefined
  /** Device nodes may be in a tar archive. */
  readonly allowsDevices?: boolean | undefined
  /** What image.zst may have, by the library's quota. */
  readonly bytesMax?: number | undefined
  /** The library's folder. */
  readonly folder: string
  readonly signal?: AbortSignal
  /** Called at most every `progressMs`, and once at the end. */
  readonly onProgress?: (progress: ImportProgress) => void
}

export type ImportedImage = {
  readonly digest: string
  readonly manifest: Manifest
  /** Size of the disk, and of image.zst, in bytes. */
  readonly sizeBytes: number
  readonly storedBytes: number
  /** Of the disk, in blocks that may read as anything. */
  readonly freeBytes: number
  /** What was seen where on the disk. */
  readonly volumes: readonly VolumeReport[]
  /** What is in an archive. */
  readonly tar?: TarCounts
}

const progressMs = 250

/**
 * Frames being compressed at once: the cores there are, but never all four threads of Node's pool, which a service
 * needs for its files meanwhile. So many frames are in memory, and two more.
 */
const framesInWork = Math.min(3, availableParallelism())

/**
 * Imports an image and gives its digest. The same content, imported again, gives the same digest and keeps the folder
 * that is there, unless that is damaged. Throws Failure `image-broken` (damaged, truncated, of a kind that cannot be
 * read), `image-too-large`, `bad-input` (no such file), `library-full`, `cancelled` (by the signal).
 */
export async function importImage(options: ImportOptions): Promise<ImportedImage> {
  const library: Library = { folder: options.folder }
  const signal = options.signal ?? new AbortController().signal
  let folder: string | undefined
  try {
    signal.throwIfAborted()
    folder = await makeIncoming(library)
    const image = await writeImage(folder, options, signal)
    const { manifest } = image
    // What was spooled; the folder becomes the image's.
    await removeOthers(folder, ['image.zst'])
    const bytes = encodeManifest(manifest)
    await writeFile(join(folder, 'manifest.json'), bytes, { flush: true })
    // A second pass: how long a piece is depends on the size at the end. What was just written is read from memory.
    await writeForms(join(folder, 'forms'), await computeForms(join(folder, 'image.zst'), manifest, { signal }))
    await syncFolder(folder)
    signal.throwIfAborted()
    const digest = digestOf(bytes)
    await publish(library, digest, folder, signal)
    return { digest, ...image }
  } catch (error) {
    throw failureOf(error, signal, options.folder)
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
  }
}

async function removeOthers(folder: string, kept: readonly string[]): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!kept.includes(name)) await rm(join(folder, name), { recursive: true })
  }
}

function failureOf(error: unknown, signal: AbortSignal, folder: string): unknown {
  if (signal.aborted) return new Failure('cancelled', 'the import was cancelled', { cause: error })
  if (error instanceof Failure) return error
  if (isErrno(error, 'ENOSPC', 'EDQUOT')) {
    return new Failure('library-full', 'the volume of the image library is full', { cause: error, at: folder })
  }
  if (error instanceof Error && 'syscall' in error) {
    return new Failure('internal', `the image library in ${folder} cannot be written`, { cause: error })
  }
  return error
}

async function writeImage(
  folder: string,
  options: ImportOptions,
  signal: AbortSignal,
): Promise<Omit<ImportedImage, 'digest'>> {
  const { source, kind, isRaw = false, allowsDevices = false } = options
  let readBytes = 0
  let lastReport = 0
  const writer = new ImageWriter(await LibraryFile.create(join(folder, 'image.zst'), options.bytesMax))
  const report = (total: number | undefined, isLast = false) => {
    if (!isLast && performance.now() - lastReport < progressMs) return
    lastReport = performance.now()
    const { diskBytes, storedBytes } = writer
    options.onProgress?.({ readBytes: Math.max(readBytes, diskBytes), diskBytes, diskBytesTotal: total, storedBytes })
  }
  const onRead = (bytes: number) => {
    readBytes = bytes
    report(undefined)
  }
  try {
    const image = await openImage({ source, folder, kind, isRaw, allowsDevices, signal, onRead })
    try {
      const { content, table, tar } = image
      const isDisk = image.kind !== 'tar'
      const { map, volumes } = isDisk ? await findFreeSpace(content, table, signal) : { map: undefined, volumes: [] }
      await compressAll(readFrames(content, map, signal), writer, () => report(content.sizeBytes))
      const manifest = await writer.finish({ kind: image.kind, sectorBytes: table?.sectorBytes ?? 512 })
      const { sizeBytes, storedBytes } = manifest
      report(sizeBytes, true)
      const freeBytes = map?.freeBytes() ?? 0
      return { manifest, sizeBytes, storedBytes, freeBytes, volumes, ...(tar && { tar }) }
    } finally {
      await image.content.close()
    }
  } finally {
    await writer.close()
  }
}

type Frame = { readonly raw: Buffer; readonly runs: readonly BlockRun[] | undefined }

/** The disk in pieces of `frameSizeBytes`, the last may be shorter; free blocks are zeros, and not read where that saves much. */
async function* readFrames(
  content: Content,
  map: FreeMap | undefined,
  signal: AbortSignal,
): AsyncGenerator<Frame, void, void> {
  for (let offset = 0, number = 0; offset < content.sizeBytes; offset += frameSizeBytes, number++) {
    signal.throwIfAborted()
    const rawBytes = Math.min(frameSizeBytes, content.sizeBytes - offset)
    const runs = map?.runsOf(number, rawBytes)
    if (map === undefined || runs === undefined) {
      yield { raw: await content.read(offset, rawBytes), runs }
      continue
    }
    const raw = Buffer.alloc(rawBytes)
    await readUsed({ map, frame: number, rawBytes }, async (from, bytes) => {
      ;(await content.read(offset + from, bytes)).copy(raw, from)
    })
    map.clear(raw, offset)
    yield { raw, runs }
  }
}

/** Compresses all frames, a few at once, and writes them in order. */
async function compressAll(frames: AsyncIterable<Frame>, writer: ImageWriter, onWritten: () => void): Promise<void> {
  const inWork: { frame: Promise<CompressedFrame>; rawBytes: number }[] = []
  const writeOldest = async () => {
    const oldest = inWork.shift()
    if (oldest === undefined) return
    await writer.append(await oldest.frame, oldest.rawBytes)
    onWritten()
  }
  try {
    for await (const { raw, runs } of frames) {
      const frame = compressFrame(raw, runs)
      // It is awaited in its turn; until then a rejection has an owner here.
      frame.catch(() => {})
      inWork.push({ frame, rawBytes: raw.length })
      if (inWork.length >= framesInWork) await writeOldest()
    }
    while (inWork.length > 0) await writeOldest()
  } finally {
    await Promise.allSettled(inWork.map(({ frame }) => frame))
  }
}

/** image.zst as it grows, and what the manifest will say of it. */
class ImageWriter {
  readonly #file: LibraryFile
  readonly #frames: ManifestFrame[] = []
  readonly #rows: SeekEntry[] = []
  #diskBytes = 0

  constructor(file: LibraryFile) {
    this.#file = file
  }

  get diskBytes(): number {
    return this.#diskBytes
  }

  get storedBytes(): number {
    return this.#file.sizeBytes
  }

  async append(frame: CompressedFrame, rawBytes: number): Promise<void> {
    const place = { offset: this.#file.sizeBytes, length: frame.bytes.length }
    await this.#file.write(frame.bytes)
    this.#frames.push(
      frame.class === 'data'
        ? {
            class: 'data',
            ...place,
            sha256: frame.sha256,
            rawSha256: frame.rawSha256,
            ...(frame.extents && { extents: frame.extents }),
          }
        : { class: frame.class, ...place },
    )
    this.#rows.push({ stored: frame.bytes.length, raw: rawBytes })
    this.#diskBytes += rawBytes
  }

  async finish(means: Pick<Manifest, 'sectorBytes'> & { readonly kind: ImageKind }): Promise<Manifest> {
    await this.#file.write(encodeSeekTable(this.#rows))
    const storedBytes = this.#file.sizeBytes
    await this.#file.finish()
    return { format: 2, ...means, sizeBytes: this.#diskBytes, frameSizeBytes, storedBytes, frames: this.#frames }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** Renames the finished folder into place, or keeps the same image that is there and whole. */
async function publish(library: Library, digest: string, folder: string, signal: AbortSignal): Promise<void> {
  const target = imagePaths(library, digest).folder
  if (await isThere(library, digest, signal)) return
  for (let attempt = 0; ; attempt++) {
    try {
      await rename(folder, target)
      await syncFolder(library.folder)
      return
    } catch (error) {
      if (!isErrno(error, 'ENOTEMPTY', 'EEXIST') || attempt > 0) throw error
      if (await isThere(library, digest, signal)) return
      // There but damaged. Its readers keep their open files; the whole one takes its place.
      const grave = await makeIncoming(library)
      await rename(target, grave)
      await rm(grave, { recursive: true, force: true })
    }
  }
}

async function isThere(library: Library, digest: string, signal: AbortSignal): Promise<boolean> {
  try {
    await verifyImage(library, digest, { signal })
    return true
  } catch (error) {
    if (error instanceof Failure && (error.code === 'unknown-image' || error.code === 'image-corrupt')) return false
    throw error
  }
}
