// From whatever an operator has (raw disk, qcow2, either of them packed by gzip, xz or zstd; a file or an upload) to the
// bytes of a disk in order. What something is, its first bytes tell, never its name. What is known but cannot be read
// is refused by name, because taken for a raw disk it would be written to machines as it is.
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, invariant } from '../model/failure.ts'
import { type Limits, outputOf } from './child.ts'
import { LibraryFile } from './library-file.ts'
import { qcow2Magic, readQcow2 } from './qcow2.ts'

export type ImageSource = AsyncIterable<Buffer> | string

export type DiskOptions = {
  readonly source: ImageSource
  /** Takes a spooled qcow2 and a socket; whoever made it removes it. */
  readonly folder: string
  readonly signal: AbortSignal
  /** Bytes read from the source so far. A qcow2 file is read by qemu, out of sight: only its head is counted. */
  readonly onRead: (bytes: number) => void
  /** The size of the disk, told before its first byte where it can be known. */
  readonly onSize: (bytes: number) => void
}

/**
 * A qcow2 image that comes packed or as a stream is spooled to a file first, because its tables may lie behind its
 * data. That file may have so many bytes.
 */
const spoolBytesMax = 256 * 1024 ** 3

/** Bytes by which everything is recognised. */
const headBytes = 512

/** A day of one core: far more than the largest disk takes, and an end. */
const cpuSeconds = 24 * 3600
const GiB = 1024 ** 3

type Packing = {
  readonly name: string
  readonly magic: Buffer
  readonly command: readonly [string, ...string[]]
  readonly limits: Limits
}

const packings: readonly Packing[] = [
  {
    name: 'gzip',
    magic: Buffer.from('1f8b08', 'hex'),
    command: ['gzip', '-dc'],
    limits: { memoryBytes: GiB / 4, cpuSeconds },
  },
  {
    name: 'xz',
    magic: Buffer.from('fd377a585a00', 'hex'),
    // xz -9 asks for 65 MiB; custom dictionaries may ask for 4 GiB.
    command: ['xz', '-dc', '--threads=0', '--memlimit-decompress=1GiB', '--memlimit-mt-decompress=512MiB'],
    limits: { memoryBytes: 1.5 * GiB, cpuSeconds },
  },
  {
    name: 'zstd',
    magic: Buffer.from('28b52ffd', 'hex'),
    // Level 22 asks for 128 MiB, --long=29 for 512 MiB.
    command: ['zstd', '-dc', '--memory=512MB'],
    limits: { memoryBytes: 1.5 * GiB, cpuSeconds },
  },
]

/** What cannot be read: [what it is, what to do, where its magic lies, the magic]. */
const known: readonly (readonly [string, string, number, Buffer])[] = [
  ...(['KDMV', 'COWD', '# Disk DescriptorFile'] as const).map((text) => convert('VMDK', 0, Buffer.from(text))),
  convert('VHDX', 0, Buffer.from('vhdxfile')),
  convert('VHD', 0, Buffer.from('conectix')),
  convert('VDI', 64, Buffer.from('7f10dabe', 'hex')),
  convert('QED', 0, Buffer.from('QED\0')),
  convert('Parallels', 0, Buffer.from('WithoutFreeSpace')),
  convert('Parallels', 0, Buffer.from('WithouFreSpacExt')),
  ['an Android sparse image', 'unpack it, by: simg2img', 0, Buffer.from('3aff26ed', 'hex')],
  ['a partclone image', 'restore it to a raw image first', 0, Buffer.from('partclone-image')],
  ['a tar archive', 'unpack it and publish the disk image in it', 257, Buffer.from('ustar')],
  ['a zip archive', 'unpack it and publish the disk image in it', 0, Buffer.from('504b0304', 'hex')],
  ['a 7z archive', 'unpack it and publish the disk image in it', 0, Buffer.from('377abcaf271c', 'hex')],
  ['packed by bzip2', 'unpack it, by: bunzip2', 0, Buffer.from('BZh')],
  ['packed by lz4', 'unpack it, by: lz4 -d', 0, Buffer.from('04224d18', 'hex')],
  ['packed by lzip', 'unpack it, by: lzip -d', 0, Buffer.from('LZIP')],
  ...packings.map(({ name, magic }) => [`packed twice, by ${name} inside`, 'unpack it once', 0, magic] as const),
]

function convert(name: string, at: number, magic: Buffer) {
  return [`a ${name} image`, 'convert it, by: qemu-img convert -O qcow2 IMAGE IMAGE.qcow2', at, magic] as const
}

/**
 * Gives the bytes of the disk. Throws Failure `bad-input` when the file cannot be opened, `image-broken` when the
 * source is damaged or of a kind that cannot be read, `image-too-large`, `library-full`; or the signal's reason.
 * Holds nothing when the generator has ended.
 */
export async function* readDisk(options: DiskOptions): AsyncGenerator<Buffer, void, void> {
  const file = typeof options.source === 'string' ? await openSource(options.source) : undefined
  // A source that hangs must not hold us after we are done with it, so reading it ends with us and not only with it.
  const done = new AbortController()
  const chunks = typeof options.source === 'string' ? fileChunks(file) : options.source
  const reader = new Reader(counted(chunks, options.onRead, AbortSignal.any([options.signal, done.signal])))
  try {
    const head = await reader.head()
    if (head.length === 0) throw broken('is empty')
    const packing = packings.find(({ magic }) => head.subarray(0, magic.length).equals(magic))
    yield* packing === undefined ? readPlain(reader, options, file) : readUnpacked(packing, reader, options)
  } finally {
    done.abort()
    await reader.close()
    await file?.handle.close()
  }
}

async function* readUnpacked(
  packing: Packing,
  packed: Reader,
  options: DiskOptions,
): AsyncGenerator<Buffer, void, void> {
  const { command, limits, name } = packing
  const { signal } = options
  const reader = new Reader(explained(name, signal, outputOf(command, { limits, input: packed.all(), signal })))
  try {
    const head = await reader.head()
    if (head.length === 0) throw broken(`is empty, once unpacked by ${name}`)
    yield* readPlain(reader, options)
  } finally {
    await reader.close()
  }
}

/** The decompressor's output; its own complaint becomes the cause of one that the operator understands. */
async function* explained(
  name: string,
  signal: AbortSignal,
  output: AsyncGenerator<Buffer, void, void>,
): AsyncGenerator<Buffer, void, void> {
  try {
    yield* output
  } catch (cause) {
    if (cause instanceof Failure || signal.aborted) throw cause
    throw broken(`cannot be unpacked by ${name}: it is damaged, cut off or asks for too much memory`, cause)
  }
}

/** What is no longer packed, from `file` if it never was: a raw disk as it is, a qcow2 by way of a file. */
async function* readPlain(reader: Reader, options: DiskOptions, file?: SourceFile): AsyncGenerator<Buffer, void, void> {
  const head = await reader.head()
  for (const [what, remedy, at, magic] of known) {
    if (head.subarray(at, at + magic.length).equals(magic)) throw broken(`is ${what}, which cannot be read: ${remedy}`)
  }
  if (!isQcow2(head)) {
    if (file?.isRegular) options.onSize(file.sizeBytes)
    return yield* reader.all()
  }
  yield* readQcow2(file?.isRegular ? file.path : await spool(reader, options.folder), options)
}

/** Writes the whole stream to a file in `folder` and gives its path. */
async function spool(reader: Reader, folder: string): Promise<string> {
  const path = join(folder, 'spool.qcow2')
  const file = await LibraryFile.create(path)
  try {
    for await (const chunk of reader.all()) {
      if (file.sizeBytes + chunk.length > spoolBytesMax) {
        const message = `a qcow2 image that is packed or uploaded may have ${spoolBytesMax} bytes: publish it from a file`
        throw new Failure('image-too-large', message)
      }
      await file.write(chunk)
    }
  } finally {
    await file.close()
  }
  return path
}

function isQcow2(head: Buffer): boolean {
  return head.subarray(0, qcow2Magic.length).equals(qcow2Magic)
}

/** Looks at the first bytes of a stream without taking them from it. Must be closed. */
class Reader {
  readonly #chunks: AsyncIterator<Buffer, void, void>
  #head: Buffer | undefined

  constructor(chunks: AsyncGenerator<Buffer, void, void>) {
    this.#chunks = chunks
  }

  /** The first `headBytes` bytes, or all of a shorter stream, or a few more. */
  async head(): Promise<Buffer> {
    if (this.#head !== undefined) return this.#head
    const parts: Buffer[] = []
    for (let length = 0; length < headBytes; ) {
      const { value, done } = await this.#chunks.next()
      if (done || value === undefined) break
      parts.push(value)
      length += value.length
    }
    this.#head = Buffer.concat(parts)
    return this.#head
  }

  /** The whole stream, its head included. Only once. */
  async *all(): AsyncGenerator<Buffer, void, void> {
    const head = await this.head()
    if (head.length > 0) yield head
    for (;;) {
      const { value, done } = await this.#chunks.next()
      if (done || value === undefined) return
      yield value
    }
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }
}

type SourceFile = {
  readonly handle: FileHandle
  readonly path: string
  readonly isRegular: boolean
  readonly sizeBytes: number
}

async function openSource(path: string): Promise<SourceFile> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path)
    const info = await handle.stat()
    if (!info.isFile() && !info.isBlockDevice()) throw new Error('it is neither a file nor a block device')
    return { handle, path, isRegular: info.isFile(), sizeBytes: info.size }
  } catch (cause) {
    await handle?.close()
    throw new Failure('bad-input', `the image file ${path} cannot be read`, { cause, at: 'source' })
  }
}

const readBytes = 1024 * 1024

async function* fileChunks(file: SourceFile | undefined): AsyncGenerator<Buffer, void, void> {
  invariant(file, 'a source that is a path was opened')
  for (let at = 0; ; ) {
    const { buffer, bytesRead } = await file.handle.read(Buffer.allocUnsafeSlow(readBytes), 0, readBytes, at)
    if (bytesRead === 0) return
    at += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

/**
 * The source's chunks, counted. Ends with the signal's reason at once when it is aborted, though the source may hang;
 * an error of the source becomes Failure `image-broken` unless it is a Failure.
 */
async function* counted(
  chunks: AsyncIterable<Buffer>,
  onRead: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  const iterator = chunks[Symbol.asyncIterator]()
  let total = 0
  try {
    for (;;) {
      const { value, done } = await nextUnlessAborted(iterator, signal)
      if (done) return
      total += value.length
      onRead(total)
      yield value
    }
  } catch (cause) {
    if (signal.aborted || cause instanceof Failure) throw cause
    throw broken(`broke off after ${total} bytes`, cause)
  } finally {
    // Not awaited: a source that hangs in `next` answers `return` never.
    void Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

function nextUnlessAborted<T>(iterator: AsyncIterator<T>, signal: AbortSignal): Promise<IteratorResult<T>> {
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    // A race of promises would keep a reaction on the abort for every chunk of a terabyte.
    iterator
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', onAbort))
  })
}

function broken(what: string, cause?: unknown): Failure {
  return new Failure('image-broken', `the image source ${what}`, { cause })
}
