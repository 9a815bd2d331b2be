// Images that mean harm, made by the thousand: real ones of every format and file system with a few bytes changed, some of them
// with their checksums made right again so that the change is believed. Each has a number, and is the same in every run with
// the same seed. What must hold is that none ends in anything but an image or a Failure, leaves nothing behind, and keeps to
// its time and memory.
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32, gzipSync } from 'node:zlib'
import { Failure } from '../model/failure.ts'
import { TarReader } from '../protocol/tar.ts'
import { FileContent } from './content.ts'
import { findFreeSpace } from './free-space.ts'
import { importImage } from './import.ts'
import { openLibrary } from './library.ts'
import { partitionTableBytes, readPartitionTable } from './partition-table.ts'
import type { Content } from './volume.ts'

const MiB = 1024 * 1024

export type HostileResult = {
  readonly inputs: number
  readonly byKind: Readonly<Record<string, number>>
  /** How many were taken for images nevertheless: of those, what is free is only less or more. */
  readonly taken: number
  readonly refused: number
  readonly slowestMs: number
  readonly memoryBytes: number
}

/** Whole numbers below `bound`, the same for the same seed. */
type Dice = (bound: number) => number

function diceOf(seed: number): Dice {
  let state = seed >>> 0
  return (bound) => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound
  }
}

type Change = { readonly at: number; readonly bytes: Buffer }

const telling = [
  0n,
  1n,
  2n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 40n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
]

/** A number of one to eight bytes in either order, a telling one or any. */
function changeAt(at: number, dice: Dice): Change {
  const width = [1, 2, 4, 8][dice(4)] ?? 1
  const value =
    dice(3) === 0 ? (BigInt(dice(2 ** 32)) << 32n) | BigInt(dice(2 ** 32)) : (telling[dice(telling.length)] ?? 0n)
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  const part = bytes.subarray(0, width)
  return { at, bytes: dice(2) === 0 ? part : Buffer.from(part).reverse() }
}

/** A content with some of its bytes changed; neither it nor the file is copied. */
function changed(content: Content, changes: readonly Change[]): Content {
  return {
    sizeBytes: content.sizeBytes,
    async read(offset, length) {
      const bytes = await content.read(offset, length)
      for (const change of changes) {
        for (const [index, byte] of change.bytes.entries()) {
          const at = change.at + index - offset
          if (at >= 0 && at < length) bytes.writeUInt8(byte, at)
        }
      }
      return bytes
    },
    async close() {},
  }
}

type DiskSeed = { readonly name: string; readonly content: Content; readonly places: readonly number[] }

const fileSystems: readonly (readonly [string, number, readonly string[]])[] = [
  ['ext4', 64, ['mkfs.ext4', '-q', '-F']],
  ['ext4 of 1 KiB blocks, meta_bg', 64, ['mkfs.ext4', '-q', '-F', '-b', '1024', '-O', 'meta_bg,^resize_inode']],
  ['ext2', 16, ['mkfs.ext2', '-q', '-F']],
  ['xfs', 320, ['mkfs.xfs', '-q', '-f']],
  ['btrfs', 160, ['mkfs.btrfs', '-q', '-f']],
  ['ntfs', 32, ['mkntfs', '-Q', '-F', '-q', '-p', '0', '-H', '0', '-S', '0']],
  ['fat12', 4, ['mkfs.vfat', '-F', '12']],
  ['fat16', 32, ['mkfs.vfat', '-F', '16']],
  ['fat32', 64, ['mkfs.vfat', '-F', '32', '-s', '1']],
]

function newFile(path: string, bytes: number): string {
  const file = openSync(path, 'w')
  ftruncateSync(file, bytes)
  closeSync(file)
  return path
}

/** Where a file holds something: the changes go there, and into its first blocks most of all. */
function filledPlaces(path: string, sizeBytes: number): number[] {
  const file = openSync(path, 'r')
  const part = Buffer.alloc(MiB)
  const zeros = Buffer.alloc(4096)
  const places: number[] = []
  for (let at = 0; at < sizeBytes; at += part.length) {
    readSync(file, part, 0, part.length, at)
    for (let block = 0; block < part.length; block += zeros.length) {
      if (!part.subarray(block, block + zeros.length).equals(zeros)) places.push(at + block)
    }
  }
  closeSync(file)
  return places
}

async function diskSeeds(folder: string): Promise<DiskSeed[]> {
  const seeds: DiskSeed[] = []
  const add = async (name: string, path: string, sizeBytes: number) => {
    seeds.push({ name, content: new FileContent(await open(path), sizeBytes), places: filledPlaces(path, sizeBytes) })
  }
  for (const [name, mib, [program = '', ...args]] of fileSystems) {
    const path = newFile(join(folder, `disk-${seeds.length}`), mib * MiB)
    execFileSync(program, [...args, path], { stdio: 'ignore' })
    await add(name, path, mib * MiB)
  }
  const layouts = {
    gpt: 'label: gpt\nstart=2048, size=65536\nstart=67584, size=8192\n',
    mbr: 'label: dos\nstart=2048, size=65536\nstart=67584, type=5, size=12288\nstart=69632, size=8192\n',
  }
  for (const [name, input] of Object.entries(layouts)) {
    const path = newFile(join(folder, `disk-${name}`), 40 * MiB)
    execFileSync('sfdisk', ['--quiet', path], { input })
    const offsets = name === 'gpt' ? [2048, 67_584] : [2048, 69_632]
    execFileSync('mkfs.ext4', ['-q', '-F', '-E', `offset=${(offsets[0] ?? 0) * 512}`, path, '32M'], { stdio: 'ignore' })
    execFileSync('mkfs.vfat', ['-F', '12', '--offset', String(offsets[1]), path, '4096'], { stdio: 'ignore' })
    await add(name, path, 40 * MiB)
  }
  return seeds
}

/** The first header and entries of a GPT, checksums made right. */
async function mendGpt(disk: Content): Promise<Change[]> {
  const header = (await disk.read(512, 512)).subarray(0, 92)
  if (header.toString('latin1', 0, 8) !== 'EFI PART') return []
  const [at, bytes] = [Number(header.readBigUInt64LE(72)) * 512, header.readUInt32LE(80) * header.readUInt32LE(84)]
  if (at + bytes > disk.sizeBytes || bytes > MiB) return []
  header.writeUInt32LE(crc32(await disk.read(at, bytes)), 88)
  header.writeUInt32LE(92, 12)
  header.writeUInt32LE(0, 16)
  header.writeUInt32LE(crc32(header), 16)
  return [{ at: 512, bytes: header }]
}

/** A disk whose file systems or tables say what they should not. True when any of it was believed. */
async function hostileDisk(seeds: readonly DiskSeed[], dice: Dice): Promise<boolean> {
  const seed = seeds[dice(seeds.length)]
  if (seed === undefined) return false
  const { content, places } = seed
  const place = () => {
    const block = dice(3) === 0 ? places[dice(Math.min(places.length, 4))] : places[dice(places.length)]
    // Numbers lie at even places, most of them near the start of their structure.
    return (block ?? 0) + (dice(2) === 0 ? dice(512) & ~1 : dice(4088) & ~1)
  }
  const changes = Array.from({ length: 1 + dice(4) }, () => changeAt(place(), dice))
  const disk = changed(content, changes)
  const whole = dice(2) === 0 ? changed(disk, await mendGpt(disk)) : disk
  const table = readPartitionTable(await whole.read(0, partitionTableBytes))
  const { map, volumes } = await findFreeSpace(whole, table, AbortSignal.timeout(60_000))
  for (let frame = 0; frame * 4 * MiB < whole.sizeBytes; frame++) map.runsOf(frame, 4 * MiB)
  if (map.isFree(0)) throw new Error('the start of the disk is called free')
  for (const { offset, sizeBytes } of volumes) {
    if (offset + sizeBytes > whole.sizeBytes) throw new Error('a volume reaches beyond the disk')
  }
  return volumes.some(({ freeBytes }) => freeBytes > 0)
}

function tarSeeds(folder: string): Buffer[] {
  const root = join(folder, 'root')
  mkdirSync(join(root, 'a', 'b'), { recursive: true })
  writeFileSync(join(root, 'a', 'file'), 'text')
  writeFileSync(join(root, 'a', 'b', 'n'.repeat(180)), Buffer.alloc(5000, 'x'))
  newFile(join(root, 'sparse'), MiB / 4)
  execFileSync('ln', ['-s', '/etc', join(root, 'link')])
  execFileSync('ln', [join(root, 'a', 'file'), join(root, 'hard')])
  execFileSync('mkfifo', [join(root, 'pipe')])
  const formats = ['gnu', 'posix', 'oldgnu'].map((format) => ['--sparse', `--format=${format}`])
  return [...formats, ['--format=posix', '--xattrs']].map((options) =>
    execFileSync('tar', ['-c', ...options, '-C', root, '.']),
  )
}

/** Names, links, sizes and types that leave the archive or cannot be. */
const badTexts = [
  '../../etc/passwd',
  '/etc/passwd',
  'a/../../b',
  'link/passwd',
  './link/x',
  'a\0b',
  '..',
  '\xff'.repeat(100),
  '77777777777',
  '-1',
  '\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff',
  '99 path=/x\n',
  '0',
]

function hostileTar(seed: Buffer, dice: Dice): Buffer {
  const bytes = Buffer.from(seed.subarray(0, dice(8) === 0 ? dice(seed.length) : seed.length))
  for (let count = 1 + dice(4); count > 0 && bytes.length >= 512; count--) {
    const header = dice(Math.floor(bytes.length / 512)) * 512
    if (dice(2) === 0) {
      const field = [0, 100, 124, 136, 156, 157, 257, 345, 386, 482, 483][dice(11)] ?? 0
      bytes.write(badTexts[dice(badTexts.length)] ?? '', header + field, 'latin1')
    } else {
      const { at, bytes: value } = changeAt(header + dice(505), dice)
      value.copy(bytes, at)
    }
    // Most of them with a checksum that is right.
    if (dice(4) > 0) mendTarHeader(bytes.subarray(header, header + 512))
  }
  return bytes
}

function mendTarHeader(block: Buffer): void {
  if (block.length < 512) return
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}

/** True when the archive would be published. */
function readTar(bytes: Buffer, dice: Dice): boolean {
  const reader = new TarReader({ allowsDevices: dice(2) === 0 })
  const chunk = 1 + dice(20_000)
  try {
    for (let at = 0; at < bytes.length; at += chunk) reader.push(bytes.subarray(at, at + chunk))
    reader.end()
    return true
  } catch (error) {
    // What it says of an archive is an Error itself; a defect is one of its kinds.
    if (error instanceof TypeError || error instanceof RangeError) throw error
    return false
  }
}

function fileSeeds(folder: string): Buffer[] {
  // Small, so that most of each is header and tables.
  const disk = Buffer.alloc(640 * 1024).fill('text ', 200_000, 300_000)
  const raw = join(folder, 'raw')
  writeFileSync(raw, disk)
  const formats: readonly (readonly string[])[] = [
    ['qcow2', '-ocluster_size=512'],
    ['qcow2', '-ocluster_size=4096,compression_type=zstd', '-c'],
    ['qcow2', '-oextended_l2=on,cluster_size=16k'],
    ['vmdk'],
    ['vmdk', '-osubformat=streamOptimized'],
    ['vdi'],
    ['vhdx', '-oblock_size=1M'],
    ['vpc', '-oforce_size=on'],
    ['vpc', '-osubformat=fixed,force_size=on'],
  ]
  const images = formats.map(([format = '', ...options], index) => {
    const path = join(folder, `image-${index}`)
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, raw, path])
    return readFileSync(path)
  })
  const packed = ['gzip', 'xz', 'zstd', 'bzip2'].map((name) => execFileSync(name, ['-c'], { input: disk }))
  return [...images, ...packed]
}

function hostileFile(seed: Buffer, dice: Dice): Buffer {
  const bytes = Buffer.from(seed.subarray(0, dice(8) === 0 ? dice(seed.length) : seed.length))
  for (let count = 1 + dice(5); count > 0 && bytes.length > 8; count--) {
    const near = dice(2) === 0 ? dice(512) : dice(3) === 0 ? 192 * 1024 + dice(128) : dice(bytes.length)
    const { at, bytes: value } = changeAt(near % (bytes.length - 8), dice)
    value.copy(bytes, at)
  }
  const isVhd = bytes.toString('latin1', 0, 8) === 'conectix' && bytes.length >= 512
  if (isVhd && dice(2) === 0) {
    bytes.writeUInt32BE(0, 64)
    bytes.writeUInt32BE(~bytes.subarray(0, 512).reduce((sum, byte) => sum + byte, 0) >>> 0, 64)
  }
  return bytes
}

type SavedSeed = { readonly files: ReadonlyMap<string, Buffer>; readonly image: Buffer }

function savedSeed(folder: string): SavedSeed {
  const volume = newFile(join(folder, 'saved'), 4 * MiB)
  execFileSync('mkfs.vfat', ['-F', '12', volume], { stdio: 'ignore' })
  const image = execFileSync('partclone.fat', ['-L', '/dev/null', '-q', '-c', '-s', volume, '-o', '-'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const table =
    'label: dos\nlabel-id: 0x1\nunit: sectors\nsector-size: 512\n\n/dev/sda1 : start= 2048, size= 8192, type=c\n'
  const texts = { disk: 'sda\n', parts: 'sda1\n', 'sda-pt.sf': table, 'sda-pt.parted': 'Disk /dev/sda: 16384s\n' }
  return { image, files: new Map(Object.entries(texts).map(([name, text]) => [name, Buffer.from(text)])) }
}

/** A folder as Clonezilla saves one, something in it changed. */
function hostileFolder(path: string, { files, image }: SavedSeed, dice: Dice): void {
  mkdirSync(path)
  const entries = [...files, ['sda1.vfat-ptcl-img.gz.aa', image] as const]
  const victim = dice(entries.length)
  for (const [index, [name, seed]] of entries.entries()) {
    let bytes = seed
    if (index === victim) bytes = name.includes('img') ? hostileFile(seed, dice) : hostileText(seed, dice)
    writeFileSync(join(path, name), name.includes('img') ? gzipSync(bytes, { level: 1 }) : bytes)
  }
}

const badWords = [
  '../..',
  '/dev/null',
  '-1',
  '99999999999',
  '0',
  ' ',
  '\n',
  'sda1 sda1',
  '--help',
  '$(id)',
  '\0',
  'sector-size: 4096\n',
]

function hostileText(seed: Buffer, dice: Dice): Buffer {
  const text = seed.toString('latin1')
  const [at, cut] = [dice(text.length + 1), dice(6)]
  return Buffer.from(text.slice(0, at) + (badWords[dice(badWords.length)] ?? '') + text.slice(at + cut), 'latin1')
}

/** No input may take so long, on a machine that does other things beside. */
const inputMsMax = 60_000
/** What the process may grow by: the largest structures, and what the collector has not come to. */
const memoryBytesMax = 1024 * MiB

const allowed = /^(image-broken|image-too-large|bad-input)$/

async function importHostile(library: string, source: string | AsyncIterable<Buffer>): Promise<boolean> {
  const isTaken = await importImage({ source, folder: library, signal: AbortSignal.timeout(inputMsMax) }).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Failure && allowed.test(error.code)) return false
      throw error
    },
  )
  const left = readdirSync(join(library, 'incoming'))
  if (left.length > 0) throw new Error(`an import left ${left.join(', ')} behind`)
  return isTaken
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  if (bytes.length > 0) yield bytes
}

type World = {
  readonly folder: string
  readonly library: string
  readonly disks: readonly DiskSeed[]
  readonly tars: readonly Buffer[]
  readonly files: readonly Buffer[]
  readonly saved: SavedSeed
}

/** Of twenty inputs twelve are disks, four archives read alone, three files and one a folder, to be imported. */
async function runOne(world: World, number: number, dice: Dice): Promise<readonly [string, boolean]> {
  const turn = number % 20
  if (turn < 12) return ['file systems and tables', await hostileDisk(world.disks, dice)]
  if (turn < 16) return ['tar', readTar(hostileTar(world.tars[dice(world.tars.length)] ?? Buffer.alloc(0), dice), dice)]
  if (turn < 19) {
    const isTar = dice(5) === 0
    const seeds = isTar ? world.tars : world.files
    const seed = seeds[dice(seeds.length)] ?? Buffer.alloc(0)
    const bytes = isTar ? hostileTar(seed, dice) : hostileFile(seed, dice)
    return ['imports', await importHostile(world.library, once(bytes))]
  }
  const path = join(world.folder, `folder-${number}`)
  hostileFolder(path, world.saved, dice)
  return ['folders of Clonezilla', await importHostile(world.library, path)]
}

/**
 * Runs the inputs `from` to `to`. `folder` must be empty. Throws an Error that names the number of the first that broke a
 * promise, with what it threw as cause.
 */
export async function runHostile(options: {
  readonly folder: string
  readonly seed: number
  readonly from: number
  readonly to: number
}): Promise<HostileResult> {
  const { folder } = options
  mkdirSync(join(folder, 'seeds'))
  const seeds = join(folder, 'seeds')
  const world: World = {
    folder,
    library: (await openLibrary(join(folder, 'images'))).folder,
    disks: await diskSeeds(seeds),
    tars: tarSeeds(seeds),
    files: fileSeeds(seeds),
    saved: savedSeed(seeds),
  }
  const byKind: Record<string, number> = {}
  const before = process.memoryUsage().rss
  let [taken, slowestMs, memoryBytes] = [0, 0, 0]
  try {
    for (let number = options.from; number < options.to; number++) {
      const start = performance.now()
      const [kind, isTaken] = await runOne(world, number, diceOf(Math.imul(options.seed, 1_000_003) + number)).catch(
        (cause: unknown) => {
          throw new Error(`hostile input ${number} of seed ${options.seed}`, { cause })
        },
      )
      const ms = performance.now() - start
      if (ms > inputMsMax) throw new Error(`hostile input ${number} took ${Math.round(ms)} ms`)
      byKind[kind] = (byKind[kind] ?? 0) + 1
      if (isTaken) taken++
      slowestMs = Math.max(slowestMs, ms)
      memoryBytes = Math.max(memoryBytes, process.memoryUsage().rss - before)
      if (memoryBytes > memoryBytesMax)
        throw new Error(`hostile input ${number} made the process grow by ${memoryBytes} bytes`)
    }
  } finally {
    for (const { content } of world.disks) await content.close()
  }
  // All that was written lies in the library, in the seeds and in the folders that were made here.
  const strange = readdirSync(folder).filter((name) => !/^(seeds|images|folder-\d+)$/.test(name))
  if (strange.length > 0) throw new Error(`something wrote ${strange.join(', ')}`)
  const inputs = options.to - options.from
  return { inputs, byKind, taken, refused: inputs - taken, slowestMs, memoryBytes }
}
