// Imports an image: any source that source.ts reads becomes `<library>/<digest>/` in one pass, without a raw copy of the
// disk. Until the last rename everything lies in the library's `incoming/`, so whatever goes wrong leaves nothing.
import { rename, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../model/failure.ts'
import { frameSizeBytes, type Manifest, type ManifestFrame } from '../model/image.ts'
import { computeForms, writeForms } from './forms.ts'
import { type CompressedFrame, compressFrame, encodeSeekTable, type SeekEntry } from './frames.ts'
import { imagePaths, type Library, makeIncoming, syncFolder, verifyImage } from './library.ts'
import { isErrno, LibraryFile } from './library-file.ts'
import { digestOf, diskBytesMax, encodeManifest } from './manifest.ts'
import { readPartitionTable } from './partition-table.ts'
import { type ImageSource, readDisk } from './source.ts'

export type ImportProgress = {
  /** Of the source, packed as it may be. A qcow2 file is read by qemu, out of sight: watch `diskBytes` instead. */
  readonly readBytes: number
  /** Of the disk, compressed and written. */
  readonly diskBytes: number
  /** Of the whole disk, where that is known before its end. */
  readonly diskBytesTotal: number | undefined
  readonly storedBytes: number
}

export type ImportOptions = {
  /** Path of a file or block device, or the bytes as they come. */
  readonly source: ImageSource
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
    const manifest = await writeImage(folder, options, signal)
    const bytes = encodeManifest(manifest)
    await writeFile(join(folder, 'manifest.json'), bytes, { flush: true })
    // A second pass: how long a piece is depends on the size at the end. What was just written is read from memory.
    await writeForms(join(folder, 'forms'), await computeForms(join(folder, 'image.zst'), manifest, { signal }))
    await syncFolder(folder)
    signal.throwIfAborted()
    const digest = digestOf(bytes)
    await publish(library, digest, folder, signal)
    return { digest, manifest, sizeBytes: manifest.sizeBytes, storedBytes: manifest.storedBytes }
  } catch (error) {
    throw failureOf(error, signal, options.folder)
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
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

async function writeImage(folder: string, options: ImportOptions, signal: AbortSignal): Promise<Manifest> {
  let readBytes = 0
  let total: number | undefined
  let lastReport = 0
  const writer = new ImageWriter(await LibraryFile.create(join(folder, 'image.zst')))
  const report = (isLast: boolean) => {
    if (!isLast && performance.now() - lastReport < progressMs) return
    lastReport = performance.now()
    const { diskBytes, storedBytes } = writer
    options.onProgress?.({ readBytes, diskBytes, diskBytesTotal: isLast ? diskBytes : total, storedBytes })
  }
  const disk = readDisk({
    source: options.source,
    folder,
    signal,
    onRead(bytes) {
      readBytes = bytes
      report(false)
    },
    onSize(bytes) {
      checkSize(bytes)
      total = bytes
    },
  })
  try {
    const frames = cutFrames(disk)
    const first = await frames.next()
    const table = first.value === undefined ? undefined : readPartitionTable(first.value)
    const checkEnd = (sizeBytes: number) => {
      if (table === undefined || table.endBytes <= sizeBytes) return
      const ends = `its ${table.kind.toUpperCase()} describes a disk of ${table.endBytes} bytes, it ends after ${sizeBytes}`
      throw new Failure('image-broken', `the image is truncated: ${ends}`)
    }
    if (total !== undefined) checkEnd(total)
    await compressAll(first, frames, writer, () => report(false))
    const { diskBytes } = writer
    checkSize(diskBytes)
    checkEnd(diskBytes)
    if (total !== undefined && total !== diskBytes) {
      throw new Failure('image-broken', `the image changed while it was read: ${diskBytes} bytes came, not ${total}`)
    }
    const manifest = await writer.finish(table?.sectorBytes ?? 512)
    report(true)
    return manifest
  } finally {
    await disk.return()
    await writer.close()
  }
}

function checkSize(sizeBytes: number): void {
  if (sizeBytes > diskBytesMax) throw tooLarge(`${sizeBytes}`)
  if (sizeBytes === 0) throw new Failure('image-broken', 'the image holds no byte of disk')
  if (sizeBytes % 512 !== 0) {
    throw new Failure('image-broken', `the image has ${sizeBytes} bytes, which is no whole number of 512-byte sectors`)
  }
}

function tooLarge(sizeBytes: string): Failure {
  return new Failure(
    'image-too-large',
    `the image holds a disk of ${sizeBytes} bytes; ${diskBytesMax} can be published`,
  )
}

/** The disk in pieces of `frameSizeBytes`; the last may be shorter. Each piece is a buffer of its own. */
async function* cutFrames(disk: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
  let frame = Buffer.allocUnsafeSlow(frameSizeBytes)
  let filled = 0
  let total = 0
  for await (const chunk of disk) {
    total += chunk.length
    if (total > diskBytesMax) throw tooLarge(`at least ${total}`)
    for (let from = 0; from < chunk.length; ) {
      const copied = chunk.copy(frame, filled, from)
      from += copied
      filled += copied
      if (filled === frameSizeBytes) {
        yield frame
        frame = Buffer.allocUnsafeSlow(frameSizeBytes)
        filled = 0
      }
    }
  }
  if (filled > 0) yield frame.subarray(0, filled)
}

/** Compresses `first` and all that follow, a few at once, and writes them in order. */
async function compressAll(
  first: IteratorResult<Buffer, void>,
  rest: AsyncIterator<Buffer, void, void>,
  writer: ImageWriter,
  onWritten: () => void,
): Promise<void> {
  const inWork: { frame: Promise<CompressedFrame>; rawBytes: number }[] = []
  const writeOldest = async () => {
    const oldest = inWork.shift()
    if (oldest === undefined) return
    await writer.append(await oldest.frame, oldest.rawBytes)
    onWritten()
  }
  try {
    for (let next = first; !next.done; next = await rest.next()) {
      const frame = compressFrame(next.value)
      // It is awaited in its turn; until then a rejection has an owner here.
      frame.catch(() => {})
      inWork.push({ frame, rawBytes: next.value.length })
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
      frame.class === 'zero'
        ? { class: 'zero', ...place }
        : { class: 'data', ...place, sha256: frame.sha256, rawSha256: frame.rawSha256 },
    )
    this.#rows.push({ stored: frame.bytes.length, raw: rawBytes })
    this.#diskBytes += rawBytes
  }

  async finish(sectorBytes: 512 | 4096): Promise<Manifest> {
    await this.#file.write(encodeSeekTable(this.#rows))
    const storedBytes = this.#file.sizeBytes
    await this.#file.finish()
    return { format: 1, sizeBytes: this.#diskBytes, frameSizeBytes, storedBytes, sectorBytes, frames: this.#frames }
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
