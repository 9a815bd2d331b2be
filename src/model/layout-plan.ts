// The layout on disks of known sizes: where each partition begins and ends, how large arrays and volumes become, and
// whether everything fits. Pure, and before the first write: what it refuses has cost nothing. The agent carries the plan
// out; layout-rules.ts has refused what makes no sense on any disk.
import { Failure } from './failure.ts'
import type { ImageKind } from './image.ts'
import {
  type Content,
  type Layout,
  type LayoutDisk,
  type Partition,
  placesOf,
  type RaidLevel,
  type Size,
} from './layout.ts'

/** Bytes from the beginning of a disk. */
export type DiskRange = { readonly offset: number; readonly length: number }

export type TablePartition = DiskRange & {
  readonly number: number
  /** A GUID, or two hexadecimal digits; lower case. */
  readonly type: string
  readonly uuid?: string | undefined
}

/** The partition table that a disk has. Between `usableOffset` and `usableEnd` partitions may lie. */
export type DiskTable = {
  readonly kind: 'gpt' | 'mbr'
  readonly usableOffset: number
  readonly usableEnd: number
  readonly partitions: readonly TablePartition[]
}

export type PlanDisk = {
  readonly path: string
  readonly sizeBytes: number
  readonly sectorBytes: number
  /** What is there now; undefined where there is no table that can be read. Only kept tables need it. */
  readonly table?: DiskTable | undefined
}

export type PlanImage = {
  readonly sizeBytes: number
  readonly sectorBytes: number
  readonly kind: ImageKind
}

export type PlannedPartition = DiskRange & {
  readonly partition: Partition
  /** False: it is in the table already, and its row stays as it is. */
  readonly isNew: boolean
}

export type PlannedDisk = {
  readonly disk: LayoutDisk
  /** What the table is afterwards; undefined where the whole disk is one place. */
  readonly table?: 'gpt' | 'mbr' | undefined
  readonly partitions: readonly PlannedPartition[]
  /** Bytes that lie in no partition, neither planned nor kept, and are on no whole-disk image; in disk order. */
  readonly unused: readonly DiskRange[]
}

export type PlannedArray = {
  readonly name: string
  readonly level: RaidLevel
  /** `1.0` has its superblock at the end, so that firmware sees the file system itself: for an EFI system partition. */
  readonly metadata: '1.0' | '1.2'
  readonly members: readonly string[]
  /** What of each member holds data; undefined for level 0, which uses all of each. */
  readonly bytesPerMember?: number | undefined
  readonly sizeBytes: number
  readonly content: Content
}

export type PlannedVolume = { readonly name: string; readonly extents: number; readonly content: Content }
export type PlannedGroup = {
  readonly name: string
  readonly members: readonly string[]
  readonly volumes: readonly PlannedVolume[]
}

export type LayoutPlan = {
  readonly disks: readonly PlannedDisk[]
  readonly arrays: readonly PlannedArray[]
  readonly groups: readonly PlannedGroup[]
  /** By the names of `placesOf`. */
  readonly sizes: ReadonlyMap<string, number>
}

const mebibyte = 1024 * 1024
/** Everything begins and ends on these: good for every disk, and what every other tool does. */
export const alignBytes = mebibyte
/** An MBR counts sectors in 32 bits. */
const mbrSectorsMax = 2 ** 32
/** 128 rows of 128 bytes, and a header of one sector, at both ends of the disk (UEFI 2.10, section 5.3). */
const gptRowsBytes = 128 * 128

/** Where the data of a member begins: room for superblock, bitmap and bad-block log before it. */
export const arrayDataOffsetBytes = 16 * mebibyte
/** The superblock of version 1.0 lies in the last 12 KiB, with its log before it. */
const arrayTailBytes = mebibyte
export const arrayChunkBytes = 512 * 1024
/** LVM's own. */
export const extentBytes = 4 * mebibyte
export const volumeDataOffsetBytes = mebibyte

/** Less is refused by the programs that make them (xfsprogs 6.1: 300 MB; btrfs-progs 6.2: 109 MiB). */
const fileSystemBytesMin = {
  ext4: 4 * mebibyte,
  xfs: 300 * mebibyte,
  btrfs: 114 * mebibyte,
  vfat: mebibyte,
  ntfs: 2 * mebibyte,
} as const

/**
 * Resolves every size and start. `disks` are those that the names of the layout stand for. Throws Failure `disk-none` when
 * the layout does not fit its disks or a kept table is not as it must be, `image-too-large`, and `bad-input` for an image
 * that is not of the kind its place needs.
 */
export function planLayout(
  layout: Layout,
  disks: ReadonlyMap<string, PlanDisk>,
  images: ReadonlyMap<string, PlanImage>,
): LayoutPlan {
  const sizes = new Map<string, number>()
  const planned = layout.disks.map((disk) => planDisk(disk, known(disks, disk.name), sizes))
  const members = membersOf(layout)
  const arrays = layout.arrays.map(({ name, level, content }) => {
    const array = planArray({ name, level, content, members: members.get(name) ?? [] }, sizes)
    sizes.set(name, array.sizeBytes)
    return array
  })
  const groups = layout.groups.map(({ name, volumes }) => planGroup(name, volumes, members.get(name) ?? [], sizes))
  const plan = { disks: planned, arrays, groups, sizes }
  for (const disk of layout.disks) checkSectors(disk, known(disks, disk.name), images)
  for (const { place, content } of placesOf(layout)) {
    checkContent(place, content, { sizeBytes: known(sizes, place), images })
  }
  return plan
}

function known<T>(map: ReadonlyMap<string, T>, name: string): T {
  const value = map.get(name)
  if (value === undefined) throw new Error(`nothing is known of \`${name}\``)
  return value
}

function refusal(place: string, sentence: string): Failure {
  return new Failure('disk-none', sentence, { at: place })
}

function floorAlign(bytes: number): number {
  return Math.floor(bytes / alignBytes) * alignBytes
}

function ceilAlign(bytes: number): number {
  return Math.ceil(bytes / alignBytes) * alignBytes
}

/** What a new table leaves to partitions. */
export function usableOf(kind: 'gpt' | 'mbr', disk: Pick<PlanDisk, 'sizeBytes' | 'sectorBytes'>) {
  const { sizeBytes, sectorBytes } = disk
  const end = kind === 'gpt' ? sizeBytes - gptRowsBytes - sectorBytes : Math.min(sizeBytes, mbrSectorsMax * sectorBytes)
  return { usableOffset: alignBytes, usableEnd: Math.max(0, floorAlign(end)) }
}

function planDisk(disk: LayoutDisk, seen: PlanDisk, sizes: Map<string, number>): PlannedDisk {
  if (disk.table === undefined) {
    sizes.set(disk.name, seen.sizeBytes)
    return { disk, partitions: [], unused: [] }
  }
  const { kind, usableOffset, usableEnd, partitions: present } = tableOf(disk, seen)
  const partitions = disk.table === 'keep' ? planKept(disk, present) : []
  const from = Math.max(usableOffset, ...present.map(({ offset, length }) => ceilAlign(offset + length)))
  const added = disk.partitions.filter(({ number }) => !partitions.some(({ partition }) => partition.number === number))
  const end = disk.table === 'keep' ? floorAlign(usableEnd) : usableEnd
  const rooms = { from: ceilAlign(from), least: ceilAlign(usableOffset), end, present }
  partitions.push(...planNew(disk, added, rooms))
  for (const { partition, length } of partitions) sizes.set(`${disk.name}:${partition.number}`, length)
  const order = new Map(disk.partitions.map(({ number }, index) => [number, index]))
  partitions.sort((a, b) => (order.get(a.partition.number) ?? 0) - (order.get(b.partition.number) ?? 0))
  return { disk, table: kind, partitions, unused: gaps([...present, ...partitions], ceilAlign(usableOffset), end) }
}

function tableOf(disk: LayoutDisk, seen: PlanDisk): DiskTable {
  if (disk.table !== 'keep') {
    const kind = disk.table === 'mbr' ? 'mbr' : 'gpt'
    return { kind, ...usableOf(kind, seen), partitions: [] }
  }
  if (seen.table === undefined) {
    throw refusal(disk.name, `the setup keeps the partition table of ${seen.path}, which has none`)
  }
  return seen.table
}

/** The partitions of a kept table that the setup names and that are there. */
function planKept(disk: LayoutDisk, present: readonly TablePartition[]): PlannedPartition[] {
  return disk.partitions.flatMap((partition) => {
    const there = present.find(({ number }) => number === partition.number)
    const place = `${disk.name}:${partition.number}`
    const hasSize = partition.sizeBytes !== undefined || partition.sizePercent !== undefined
    if (there === undefined && partition.content.kind === 'keep') {
      throw refusal(place, `the setup keeps \`${place}\`, and there is no partition ${partition.number}`)
    }
    if (there === undefined && !hasSize) {
      throw refusal(place, `there is no partition ${partition.number} for \`${place}\`: give it a size to add it`)
    }
    if (there === undefined) return []
    // What an earlier deployment of this setup added is there the next time.
    if (partition.sizeBytes !== undefined && ceilAlign(partition.sizeBytes) !== there.length) {
      const sizes = `it has ${there.length} bytes, and the setup adds one of ${partition.sizeBytes}`
      throw refusal(place, `partition ${partition.number} for \`${place}\` is there already: ${sizes}`)
    }
    if (partition.startBytes !== undefined && partition.startBytes !== there.offset) {
      const starts = `it begins at ${there.offset}, and the setup adds one at ${partition.startBytes}`
      throw refusal(place, `partition ${partition.number} for \`${place}\` is there already: ${starts}`)
    }
    return [{ partition, isNew: false, offset: there.offset, length: there.length }]
  })
}

type Rooms = {
  /** Where the first goes that says no start, and where one may begin that does. */
  readonly from: number
  readonly least: number
  readonly end: number
  readonly present: readonly TablePartition[]
}

function planNew(disk: LayoutDisk, partitions: readonly Partition[], rooms: Rooms): PlannedPartition[] {
  const { least, end, present } = rooms
  const usable = Math.max(0, end - least)
  const lengthOf = (size: Size) => lengthIn(size, usable)
  const planned: PlannedPartition[] = []
  let at = rooms.from
  for (const [index, partition] of partitions.entries()) {
    const place = `${disk.name}:${partition.number}`
    const offset = partition.startBytes ?? at
    const behind = partitions.slice(index + 1).reduce((sum, next) => sum + (lengthOf(next) ?? 0), 0)
    const length = lengthOf(partition) ?? end - offset - behind
    const others = [...present, ...planned.map((one) => ({ ...one, number: one.partition.number }))]
    const problem = problemOf({ offset, length }, { least, end, others })
    if (problem !== undefined) throw refusal(place, `\`${place}\` ${problem}`)
    planned.push({ partition, isNew: true, offset, length })
    at = offset + length
  }
  return planned
}

/** Whole MiB: up for bytes, so that what was asked for fits, and down for parts of the whole. Undefined: what is left. */
function lengthIn({ sizeBytes, sizePercent }: Size, wholeBytes: number): number | undefined {
  if (sizeBytes !== undefined) return ceilAlign(sizeBytes)
  return sizePercent === undefined ? undefined : floorAlign((wholeBytes * sizePercent) / 100)
}

function problemOf(
  { offset, length }: DiskRange,
  {
    least,
    end,
    others,
  }: Pick<Rooms, 'least' | 'end'> & { readonly others: readonly (DiskRange & { number: number })[] },
): string | undefined {
  if (offset % alignBytes !== 0) return `begins at byte ${offset}, which is no whole MiB`
  if (offset < least) return `begins at byte ${offset}, where the partition table lies: the first free byte is ${least}`
  if (length < alignBytes || offset + length > end) {
    const need = `needs ${Math.max(length, alignBytes)} bytes from ${offset}`
    return `${need}, and the disk ends for partitions at ${end}`
  }
  const inside = others.find((other) => other.offset < offset + length && offset < other.offset + other.length)
  if (inside === undefined) return undefined
  const insideEnd = inside.offset + inside.length
  return `would lie from ${offset} to ${offset + length}, and partition ${inside.number} from ${inside.offset} to ${insideEnd}`
}

/** What no range covers between `from` and `end`. */
function gaps(ranges: readonly DiskRange[], from: number, end: number): DiskRange[] {
  const free: DiskRange[] = []
  let at = from
  for (const { offset, length } of [...ranges].sort((a, b) => a.offset - b.offset)) {
    if (offset > at) free.push({ offset: at, length: offset - at })
    at = Math.max(at, offset + length)
  }
  if (end > at) free.push({ offset: at, length: end - at })
  return free
}

function membersOf(layout: Layout): ReadonlyMap<string, string[]> {
  const members = new Map<string, string[]>()
  for (const { place, content } of placesOf(layout)) {
    if (content.kind === 'member') members.set(content.of, [...(members.get(content.of) ?? []), place])
  }
  return members
}

type Members = Pick<PlannedArray, 'name' | 'level' | 'content' | 'members'>

function planArray(array: Members, sizes: ReadonlyMap<string, number>): PlannedArray {
  const { name, level, content, members } = array
  const isForFirmware = content.kind === 'filesystem' && content.filesystem === 'vfat'
  const overhead = isForFirmware ? arrayTailBytes : arrayDataOffsetBytes
  const rooms = members.map((member) => floorAlign(known(sizes, member) - overhead))
  const least = Math.min(...rooms)
  if (least < alignBytes) {
    throw refusal(name, `the smallest member of \`${name}\` leaves ${least} bytes beside what the array itself needs`)
  }
  // Level 10 keeps two copies of each chunk, and its members may be an odd number.
  const sizeBytes = {
    0: rooms.reduce((sum, room) => sum + room, 0),
    1: least,
    10: Math.floor((rooms.length * (least / arrayChunkBytes)) / 2) * arrayChunkBytes,
  }[level]
  const metadata = isForFirmware && level === '1' ? '1.0' : '1.2'
  return { ...array, metadata, sizeBytes, ...(level === '0' ? {} : { bytesPerMember: least }) }
}

function planGroup(
  name: string,
  volumes: Layout['groups'][number]['volumes'],
  members: readonly string[],
  sizes: Map<string, number>,
): PlannedGroup {
  const extentsOf = (bytes: number) => Math.max(0, Math.floor((bytes - volumeDataOffsetBytes) / extentBytes))
  const all = members.reduce((sum, member) => sum + extentsOf(known(sizes, member)), 0)
  const given = volumes.map(({ sizeBytes, sizePercent }) => {
    if (sizeBytes !== undefined) return Math.ceil(sizeBytes / extentBytes)
    return sizePercent === undefined ? undefined : Math.floor((all * sizePercent) / 100)
  })
  const left = all - given.reduce<number>((sum, extents) => sum + (extents ?? 0), 0)
  const planned = volumes.map((volume, index) => ({
    name: volume.name,
    extents: given[index] ?? left,
    content: volume.content,
  }))
  const empty = planned.find(({ extents }) => extents < 1)
  if (left < 0 || empty !== undefined) {
    const need = planned.reduce((sum, { extents }) => sum + Math.max(1, extents), 0) * extentBytes
    const sentence = `the volumes of \`${name}\` need at least ${need} bytes, and the group has ${all * extentBytes}`
    throw refusal(name, sentence)
  }
  for (const volume of planned) sizes.set(`${name}/${volume.name}`, volume.extents * extentBytes)
  return { name, members, volumes: planned }
}

/** A partition table counts sectors, and so does the one in an image of a disk. */
function checkSectors(disk: LayoutDisk, seen: PlanDisk, images: ReadonlyMap<string, PlanImage>): void {
  const image = disk.content?.kind === 'image' ? images.get(disk.content.image) : undefined
  if (image === undefined || image.kind !== 'disk' || image.sectorBytes === seen.sectorBytes) return
  const sectors = `it has sectors of ${seen.sectorBytes} bytes, and the image's partition table assumes ${image.sectorBytes}`
  throw refusal(disk.name, `${seen.path} cannot be used for \`${disk.name}\`: ${sectors}`)
}

function checkContent(
  place: string,
  content: Content,
  { sizeBytes, images }: { readonly sizeBytes: number; readonly images: ReadonlyMap<string, PlanImage> },
): void {
  if (content.kind === 'filesystem' && sizeBytes < fileSystemBytesMin[content.filesystem]) {
    const least = fileSystemBytesMin[content.filesystem]
    throw refusal(place, `\`${place}\` has ${sizeBytes} bytes; a file system of ${content.filesystem} needs ${least}`)
  }
  const name = 'image' in content ? content.image : undefined
  if (name === undefined) return
  const image = images.get(name)
  if (image === undefined)
    throw new Failure('bad-input', `the service sent no order for the image ${name}`, { at: place })
  const isUnpacked = content.kind === 'filesystem'
  if (isUnpacked !== (image.kind === 'tar')) {
    const sentence = isUnpacked
      ? `\`${place}\` is to have ${name} unpacked into it, and that image is of a ${image.kind}, not a tar`
      : `\`${place}\` is to hold ${name} as it is, and that image is a tar: put it inside a filesystem`
    throw new Failure('bad-input', sentence, { at: place })
  }
  if (image.sizeBytes > sizeBytes) {
    const what = isUnpacked ? `the files of ${name} take` : `the image ${name} takes`
    throw new Failure('image-too-large', `${what} ${image.sizeBytes} bytes, \`${place}\` has ${sizeBytes} bytes`)
  }
}
