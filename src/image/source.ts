// From whatever an operator has (a raw disk, an image of a virtual machine, a tar archive, any of them packed; a folder of
// Clonezilla or of files; a file or an upload) to bytes at any place. What something is, its first bytes tell, never its name.
// What is known but cannot be read is refused by name, because taken for a raw disk it would be written to machines as it is.
import { type FileHandle, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../model/failure.ts'
import type { ImageKind } from '../model/image.ts'
import { isTar, type TarCounts } from '../protocol/tar.ts'
import { isClonezilla, openClonezilla } from './clonezilla.ts'
import { FileContent, openToRead, partOf, spool } from './content.ts'
import { DeviceContent } from './device-content.ts'
import { fixedVhdBytes } from './foreign-headers.ts'
import { diskBytesMax } from './manifest.ts'
import { packingOf, packings, unpacked } from './packing.ts'
import { type PartitionTable, partitionTableBytes, readPartitionTable } from './partition-table.ts'
import { openByQemu, qemuFormats } from './qemu.ts'
import { counted, StreamReader } from './stream.ts'
import { checkTar, tarOf } from './tar-image.ts'
import type { Content } from './volume.ts'

export type ImageSource = AsyncIterable<Buffer> | string

export type OpenOptions = {
  readonly source: ImageSource
  /** Takes what must be in a file to be read, and sockets; whoever made it removes it. */
  readonly folder: string
  /** What it is taken for, whatever it looks like. */
  readonly kind: ImageKind | undefined
  /** Its bytes, once unpacked, are those of the disk: what looks like an image of another form is what the disk holds. */
  readonly isRaw: boolean
  readonly allowsDevices: boolean
  readonly signal: AbortSignal
  /** Bytes taken so far of a source that is read front to back before anything else. */
  readonly onRead: (bytes: number) => void
}

export type OpenedImage = {
  readonly kind: ImageKind
  readonly content: Content
  readonly table: PartitionTable | undefined
  /** What is in an archive. */
  readonly tar?: TarCounts
}

/** What cannot be read: [what it is, what to do, where its magic lies, the magic]. */
const known: readonly (readonly [string, string, number, Buffer])[] = [
  convert('VMDK of an old kind', 0, Buffer.from('COWD')),
  [
    'the description of a VMDK',
    'publish it in one file, by: qemu-img convert -O qcow2 IMAGE ONE.qcow2',
    0,
    Buffer.from('# Disk DescriptorFile'),
  ],
  convert('QED', 0, Buffer.from('QED\0')),
  convert('Parallels', 0, Buffer.from('WithoutFreeSpace')),
  convert('Parallels', 0, Buffer.from('WithouFreSpacExt')),
  ['an Android sparse image', 'unpack it, by: simg2img', 0, Buffer.from('3aff26ed', 'hex')],
  [
    'a partclone image',
    'publish the folder of Clonezilla, or restore it to a raw image',
    0,
    Buffer.from('partclone-image'),
  ],
  ['a zip archive', 'unpack it and publish the disk image in it', 0, Buffer.from('504b0304', 'hex')],
  ['a 7z archive', 'unpack it and publish the disk image in it', 0, Buffer.from('377abcaf271c', 'hex')],
  ['packed by lz4', 'unpack it, by: lz4 -d', 0, Buffer.from('04224d18', 'hex')],
  ['packed by lzip', 'unpack it, by: lzip -d', 0, Buffer.from('LZIP')],
  ...packings.map(({ name, magic }) => [`packed twice, by ${name} inside`, 'unpack it once', 0, magic] as const),
]

function convert(name: string, at: number, magic: Buffer) {
  return [`a ${name} image`, 'convert it, by: qemu-img convert -O qcow2 IMAGE IMAGE.qcow2', at, magic] as const
}

/**
 * Opens the source; `content` must be closed. Throws Failure `bad-input` when it cannot be opened, `image-broken` when it is
 * damaged or of a kind that cannot be read, `image-too-large`, `library-full`; or the signal's reason.
 */
export async function openImage(options: OpenOptions): Promise<OpenedImage> {
  const content = await openContent(options)
  try {
    return await recognise(content, options)
  } catch (error) {
    await content.close()
    throw error
  }
}

async function recognise(content: Content, options: OpenOptions): Promise<OpenedImage> {
  checkSize(content.sizeBytes)
  const head = await content.read(0, Math.min(partitionTableBytes, content.sizeBytes))
  const table = readPartitionTable(head)
  const kind = options.kind ?? (isTar(head) ? 'tar' : table === undefined ? 'partition' : 'disk')
  if (kind === 'tar') return { kind, content, table: undefined, tar: await checkTar(content, options) }
  if (table === undefined) return { kind, content, table }
  if (table.endBytes > content.sizeBytes) {
    const ends = `its ${table.kind.toUpperCase()} describes a disk of ${table.endBytes} bytes, it ends after ${content.sizeBytes}`
    throw broken(`is truncated: ${ends}`, 'the image')
  }
  return { kind, content, table }
}

async function openContent(options: OpenOptions): Promise<Content> {
  const { source, folder, signal } = options
  if (typeof source !== 'string') return await openStream(source, options)
  const isFolder = await stat(source).then(
    (info) => info.isDirectory(),
    () => false,
  )
  if (isFolder && (await isClonezilla(source))) return await openClonezilla(source, { folder, signal })
  if (isFolder && options.kind !== undefined && options.kind !== 'tar') {
    const words = `${source} is a folder of files, which gives an image of kind \`tar\` and none of kind \`${options.kind}\``
    throw new Failure('bad-input', words, { at: 'kind' })
  }
  if (isFolder)
    return await spool(counted(tarOf(source, signal), options.onRead, signal), join(folder, 'spool'), diskBytesMax)
  const file = await openSource(source)
  try {
    const head = await file.read(0, Math.min(512, file.sizeBytes))
    if (packingOf(head) === undefined) return await openPlain(source, file, options)
  } catch (error) {
    await file.close()
    throw error
  }
  // What is packed is read front to back.
  return await openStream(chunksOf(file), options)
}

/** A stream, unpacked if it is packed, goes to a file first: where its file systems keep their bitmaps is not at its front. */
async function openStream(source: AsyncIterable<Buffer>, options: OpenOptions): Promise<Content> {
  const { folder, signal } = options
  // A source that hangs must not hold us after we are done with it, so reading it ends with us and not only with it.
  const done = new AbortController()
  const reader = new StreamReader(counted(source, options.onRead, AbortSignal.any([signal, done.signal])))
  const path = join(folder, 'spool')
  try {
    const packing = packingOf(await reader.head())
    const plain = packing === undefined ? reader.all() : unpacked(packing, reader.all(), signal)
    const content = await spool(plain, path, diskBytesMax)
    try {
      if (content.sizeBytes > 0) return await openPlain(path, content, options)
    } catch (error) {
      await content.close()
      throw error
    }
    await content.close()
    throw broken(packing === undefined ? 'is empty' : `is empty, once unpacked by ${packing.name}`)
  } finally {
    done.abort()
    await reader.close()
  }
}

/** A file that is not packed, or no longer: as it is, or by way of qemu. */
async function openPlain(path: string, file: Content, { folder, isRaw, signal }: OpenOptions): Promise<Content> {
  if (file.sizeBytes === 0) throw broken('is empty')
  if (isRaw) return file
  const head = await file.read(0, Math.min(512, file.sizeBytes))
  for (const [what, remedy, at, magic] of known) {
    if (head.subarray(at, at + magic.length).equals(magic)) throw broken(`is ${what}, which cannot be read: ${remedy}`)
  }
  const format = qemuFormats.find(({ at, magic }) => head.subarray(at, at + magic.length).equals(magic))
  if (format !== undefined) {
    await file.close()
    return await openByQemu(path, format, { folder, signal })
  }
  const footer = file.sizeBytes > 512 ? await file.read(file.sizeBytes - 512, 512) : Buffer.alloc(0)
  const fixed = fixedVhdBytes(footer, file.sizeBytes)
  return fixed === undefined ? file : partOf(file, 0, fixed)
}

function checkSize(sizeBytes: number): void {
  if (sizeBytes > diskBytesMax) {
    const message = `the image holds a disk of ${sizeBytes} bytes; ${diskBytesMax} can be published`
    throw new Failure('image-too-large', message)
  }
  if (sizeBytes === 0) throw new Failure('image-broken', 'the image holds no byte of disk')
  if (sizeBytes % 512 !== 0) {
    throw broken(`has ${sizeBytes} bytes, which is no whole number of 512-byte sectors`, 'the image')
  }
}

async function openSource(path: string): Promise<Content> {
  let handle: FileHandle | undefined
  try {
    handle = await openToRead(path)
    const info = await handle.stat()
    if (info.isFile()) return new FileContent(handle, info.size)
    if (!info.isBlockDevice()) throw new Error('it is neither a file, a folder nor a block device')
    return new DeviceContent(handle, await deviceBytes(info.rdev))
  } catch (cause) {
    await handle?.close()
    throw new Failure('bad-input', `the image file ${path} cannot be read`, { cause, at: 'source' })
  }
}

/** The size of a block device, by its number (makedev(3)). */
async function deviceBytes(device: number): Promise<number> {
  const [major, minor] = [(device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00)]
  return Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512
}

const readBytes = 1024 * 1024

async function* chunksOf(file: Content): AsyncGenerator<Buffer, void, void> {
  try {
    for (let at = 0; at < file.sizeBytes; at += readBytes)
      yield await file.read(at, Math.min(readBytes, file.sizeBytes - at))
  } finally {
    await file.close()
  }
}

function broken(what: string, who = 'the image source'): Failure {
  return new Failure('image-broken', `${who} ${what}`)
}
