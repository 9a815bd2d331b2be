// A folder in which Clonezilla saved one disk: tables as sfdisk wrote them, the start of the disk, and for each partition an
// image by partclone, or a plain copy, in packed parts. The tools that wrote them restore them, under limits, into files in
// which free space takes no room; together those are the disk.
import { open, readdir, readFile, stat, truncate } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Failure } from '../model/failure.ts'
import { Child } from './child.ts'
import { FileContent, openToRead, overlaid, type Part, spool } from './content.ts'
import { isErrno, watchSpace } from './library-file.ts'
import { diskBytesMax } from './manifest.ts'
import { packingOf, unpacked } from './packing.ts'
import { StreamReader } from './stream.ts'
import type { Content } from './volume.ts'

type Options = { readonly folder: string; readonly signal: AbortSignal }

const textBytesMax = 1024 * 1024
const partitionsMax = 128
const limits = { memoryBytes: 1024 ** 3, cpuSeconds: 24 * 3600 }
const partcloneMagic = Buffer.from('partclone-image')

/** True when a folder has the two files that every image of Clonezilla has. */
export async function isClonezilla(path: string): Promise<boolean> {
  const names = await readdir(path)
  return names.includes('parts') && names.some((name) => name.endsWith('-pt.sf'))
}

type Place = { readonly name: string; readonly offset: number; readonly sizeBytes: number }

/** Opens the disk that a folder holds. Throws Failure `image-broken`, `image-too-large` or `library-full`. */
export async function openClonezilla(path: string, options: Options): Promise<Content> {
  const names = await readdir(path)
  const disks = await words(path, 'disk')
  const [disk] = disks
  if (disk === undefined || disks.length > 1 || !names.includes(`${disk}-pt.sf`)) {
    throw broken(`holds ${disks.length} disks: one whole disk with its table can be published`)
  }
  if (names.includes('lvm_vg_dev.list')) throw broken('holds logical volumes: restore it and publish the disk')
  const table = await text(path, `${disk}-pt.sf`)
  const places = partitionsOf(table, disk)
  const parts: Part[] = []
  const base = await makeBase(path, disk, table, options)
  try {
    for (const name of await words(path, 'parts')) {
      const place = places.find((one) => one.name === name)
      if (place === undefined) throw broken(`has no place for ${name} in its table`)
      if (place.offset + place.sizeBytes > base.sizeBytes) throw broken(`has ${name} behind the end of its disk`)
      const files = names
        .filter((file) => new RegExp(`^${name}\\.[a-z0-9+-]+-img(\\.[a-z0-9]+)?\\.a[a-z]+$`, 'i').test(file))
        .sort()
      const content = await restore(
        files.map((file) => join(path, file)),
        place,
        options,
      )
      parts.push({ offset: place.offset, content })
    }
    return overlaid(base, parts)
  } catch (error) {
    await overlaid(base, parts).close()
    throw error
  }
}

/** The lines `/dev/sda1 : start= 2048, size= 204800, ...` of a dump of sfdisk. */
function partitionsOf(table: string, disk: string): Place[] {
  if (/^sector-size: (?!512$)/m.test(table)) throw broken('is of a disk whose sectors have not 512 bytes')
  const places = [...table.matchAll(/^\/dev\/(\S+)\s*:\s*start=\s*(\d{1,12}),\s*size=\s*(\d{1,12})/gm)].map(
    ([, name = '', start, sectors]) => ({ name, offset: Number(start) * 512, sizeBytes: Number(sectors) * 512 }),
  )
  if (places.length === 0 || places.length > partitionsMax || places.some(({ name }) => !name.startsWith(disk))) {
    throw broken(`has a table of ${disk} that cannot be read`)
  }
  return places
}

/** The disk without what its partitions hold: its table, made anew by sfdisk, and the code in front of the first partition. */
async function makeBase(path: string, disk: string, table: string, { folder, signal }: Options): Promise<Content> {
  const sizeBytes = await diskBytesOf(path, disk, table)
  const file = join(folder, 'table')
  const base = await spool((async function* () {})(), file, diskBytesMax)
  await base.close()
  await truncate(file, sizeBytes)
  const child = new Child(['sfdisk', '--quiet', '--force', file], { ...limits, fileBytes: sizeBytes }, 'pipe')
  await run(child, [Buffer.from(table)], signal, 'has a table that sfdisk does not take')
  const handle = await open(file, 'r+')
  const first = Math.min(...partitionsOf(table, disk).map(({ offset }) => offset))
  const mbr = await bytes(path, `${disk}-mbr`, 512)
  if (mbr !== undefined) await handle.write(mbr, 0, 446, 0)
  const hidden = /^label: dos/m.test(table)
    ? await bytes(path, `${disk}-hidden-data-after-mbr`, 16 * 1024 * 1024)
    : undefined
  if (hidden !== undefined) await handle.write(hidden, 0, Math.min(hidden.length, Math.max(0, first - 512)), 512)
  return new FileContent(handle, sizeBytes)
}

async function diskBytesOf(path: string, disk: string, table: string): Promise<number> {
  const parted = await text(path, `${disk}-pt.parted`)
  const sectors = /^Disk \S+: (\d{1,12})s/m.exec(parted)?.[1]
  const lastUsable = /^last-lba: (\d{1,12})$/m.exec(table)?.[1]
  const ends = partitionsOf(table, disk).map(({ offset, sizeBytes }) => offset + sizeBytes)
  // Behind the last usable sector of a GPT lies its copy.
  const sizeBytes = Math.max(
    Number(sectors ?? 0) * 512,
    lastUsable === undefined ? 0 : (Number(lastUsable) + 34) * 512,
    ...ends,
  )
  if (sizeBytes <= diskBytesMax) return sizeBytes
  throw new Failure('image-too-large', `the image holds a disk of ${sizeBytes} bytes; ${diskBytesMax} can be published`)
}

/** What one partition held; zeros where nothing was saved, as of swap. */
async function restore(
  files: readonly string[],
  { name, sizeBytes }: Place,
  { folder, signal }: Options,
): Promise<Content> {
  const target = join(folder, `part-${name.replaceAll(/[^a-z0-9]/gi, '-')}`)
  const packed = new StreamReader(concatenated(files))
  try {
    const packing = packingOf(await packed.head())
    const plain = new StreamReader(packing === undefined ? packed.all() : unpacked(packing, packed.all(), signal))
    try {
      const isPartclone = (await plain.head()).subarray(0, partcloneMagic.length).equals(partcloneMagic)
      const content = await spool(isPartclone ? (async function* () {})() : plain.all(), target, sizeBytes)
      await content.close()
      await truncate(target, sizeBytes)
      if (isPartclone) {
        const command = ['partclone.restore', '--no_check', '--quiet', '--logfile', '/dev/null'] as const
        const child = new Child(
          [...command, '--source', '-', '--overwrite', target],
          { ...limits, fileBytes: sizeBytes },
          'pipe',
        )
        await run(child, plain.all(), signal, `has an image of ${name} that partclone cannot restore`, target)
      }
    } finally {
      await plain.close()
    }
    const { size } = await stat(target)
    if (size !== sizeBytes) throw broken(`has an image of ${name} that is not of the size of its partition`)
    return new FileContent(await open(target), sizeBytes)
  } finally {
    await packed.close()
  }
}

/** Feeds a child and waits for its success; it is killed when the library's volume gets full meanwhile. */
async function run(
  child: Child,
  input: AsyncIterable<Buffer> | readonly Buffer[],
  signal: AbortSignal,
  what: string,
  writes?: string,
): Promise<void> {
  const kill = () => child.kill()
  signal.addEventListener('abort', kill)
  const watch = writes === undefined ? undefined : watchSpace(writes, kill)
  let inputError: { readonly error: unknown } | undefined
  try {
    child.output.resume()
    const source = (async function* () {
      try {
        yield* input
      } catch (error) {
        inputError = { error }
        throw error
      }
    })()
    await Promise.all([child.feed(source), child.ended])
    signal.throwIfAborted()
    watch?.check()
    if (inputError !== undefined) throw inputError.error
    await child.success()
  } catch (cause) {
    if (cause instanceof Failure || signal.aborted) throw cause
    throw broken(what, cause)
  } finally {
    watch?.stop()
    signal.removeEventListener('abort', kill)
    await child.close()
  }
}

async function* concatenated(files: readonly string[]): AsyncGenerator<Buffer, void, void> {
  for (const file of files) {
    const handle = await openToRead(file)
    try {
      if (!(await handle.stat()).isFile()) throw broken(`has ${basename(file)}, which is no file`)
      yield* handle.createReadStream({ highWaterMark: 1024 * 1024, autoClose: false }) as AsyncIterable<Buffer>
    } finally {
      await handle.close()
    }
  }
}

async function text(path: string, name: string): Promise<string> {
  return (await bytes(path, name, textBytesMax))?.toString('utf8') ?? ''
}

async function words(path: string, name: string): Promise<string[]> {
  const found = (await text(path, name)).split(/\s+/).filter((word) => word !== '')
  const strange = found.find((word) => !/^[a-z0-9]{1,32}$/i.test(word))
  if (strange !== undefined || found.length > partitionsMax) throw broken(`has a file ${name} that cannot be read`)
  if (new Set(found).size < found.length) throw broken(`has a file ${name} that names one thing twice`)
  return found
}

async function bytes(path: string, name: string, bytesMax: number): Promise<Buffer | undefined> {
  const file = join(path, name)
  const info = await stat(file).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined
    throw broken(`has a file ${name} that cannot be looked at`, error)
  })
  if (info === undefined) return undefined
  if (!info.isFile() || info.size > bytesMax) throw broken(`has a file ${name} of ${info.size} bytes`)
  return await readFile(file)
}

function broken(what: string, cause?: unknown): Failure {
  return new Failure('image-broken', `the folder of Clonezilla ${what}`, { cause })
}
