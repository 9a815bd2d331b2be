// Looks at a disk for file systems that can say what of it is free. Only a file system's own bitmap says so, and only where
// nothing casts doubt on it: whatever is unknown, damaged, dirty or ambiguous is kept whole, and why is told.
import { btrfs } from './free-btrfs.ts'
import { ext } from './free-ext.ts'
import { fat } from './free-fat.ts'
import { FreeMap } from './free-map.ts'
import { ntfs } from './free-ntfs.ts'
import { xfs } from './free-xfs.ts'
import { type PartitionTable, readPartitions } from './partition-table.ts'
import { type Content, type FileSystem, headBytes, ReadBudget, Unclear, Volume } from './volume.ts'

const fileSystems: readonly FileSystem[] = [ext, xfs, btrfs, ntfs, fat]

/** What was found in a partition, or on the whole of a disk that has none. */
export type VolumeReport = {
  /** 0 for a disk without partitions. */
  readonly partition: number
  readonly offset: number
  readonly sizeBytes: number
  /** `unknown` where no file system that can be read was seen. */
  readonly fileSystem: string
  readonly freeBytes: number
  /** Why all of it is kept, where a file system was seen and its word not taken. */
  readonly kept?: string
}

const MiB = 1024 * 1024

/** At the start and end of a volume: labels of LVM, RAID, ZFS and others lie there, and an old one must not live on. */
const borderBytes = MiB
/** Copies of btrfs's superblock: one that an earlier system left must not be found again. */
const mirrors = [64 * MiB, 256 * 1024 * MiB]
const mirrorBytes = 64 * 1024

/** What a file system may lie inside of, or beside: [name, place, magic]. */
const wrappings: readonly (readonly [string, number, Buffer])[] = [
  ['LUKS', 0, Buffer.from('LUKS\xba\xbe', 'latin1')],
  ...[0, 512, 1024, 1536].map((at) => ['LVM', at, Buffer.from('LABELONE')] as const),
  ...[0, 4096].map((at) => ['RAID', at, Buffer.from('fc4e2ba9', 'hex')] as const),
  ['bcache', 4096 + 24, Buffer.from('c68573f64e1a45ca8265f57f48ba6d81', 'hex')],
  ['swap', 4096 - 10, Buffer.from('SWAPSPACE2')],
]

/**
 * The free blocks of a disk with this table, or of a volume without one, and what was seen where. Throws Failure
 * `image-broken` when the disk cannot be read, or the signal's reason.
 */
export async function findFreeSpace(
  disk: Content,
  table: PartitionTable | undefined,
  signal: AbortSignal,
): Promise<{ map: FreeMap; volumes: VolumeReport[] }> {
  const map = new FreeMap(disk.sizeBytes)
  const whole = { number: 0, offset: 0, sizeBytes: disk.sizeBytes }
  const partitions = table === undefined ? [whole] : ((await readPartitions(disk, table)) ?? [])
  const budget = new ReadBudget()
  // A file system over the whole disk and a table: one of them is a left-over, and nobody here can say which.
  const outer = table === undefined ? [] : await signaturesIn(disk, whole)
  const volumes: VolumeReport[] = []
  for (const { number, offset, sizeBytes } of partitions) {
    const place = { partition: number, offset, sizeBytes }
    const { names, fileSystem, head } = await recognise(disk, { offset, sizeBytes })
    if (fileSystem === undefined) {
      const kept = names.length > 1 ? `it looks like ${names.join(' and ')}` : undefined
      volumes.push({ ...place, fileSystem: names[0] ?? 'unknown', freeBytes: 0, ...(kept && { kept }) })
      continue
    }
    const volume = new Volume({ offset, sizeBytes }, { disk, map, budget, signal })
    const { name } = fileSystem
    try {
      if (outer.length > 0) throw new Unclear(`the disk as a whole looks like ${outer.join(' and ')}`)
      await fileSystem.markFree(volume, head)
      for (const at of [0, sizeBytes - borderBytes]) volume.keep(at, borderBytes)
      for (const at of mirrors) volume.keep(at, mirrorBytes)
      volumes.push({ ...place, fileSystem: name, freeBytes: map.freeBytes(offset, sizeBytes) })
    } catch (error) {
      if (!(error instanceof Unclear)) throw error
      volume.keep(0, sizeBytes)
      volumes.push({ ...place, fileSystem: name, freeBytes: 0, kept: error.message })
    }
  }
  map.keep(0, borderBytes)
  return { map, volumes }
}

type Place = { readonly offset: number; readonly sizeBytes: number }

/** The one file system in a place, when nothing else is seen there. */
async function recognise(
  disk: Content,
  { offset, sizeBytes }: Place,
): Promise<{ names: string[]; fileSystem: FileSystem | undefined; head: Buffer }> {
  const head = await disk.read(offset, Math.min(headBytes, sizeBytes))
  const seen = fileSystems.filter((one) => one.isIn(head))
  const names = [...new Set([...seen.map(({ name }) => name), ...wrappingsIn(head)])]
  return { names, fileSystem: names.length === 1 ? seen[0] : undefined, head }
}

async function signaturesIn(disk: Content, place: Place): Promise<string[]> {
  return (await recognise(disk, place)).names
}

function wrappingsIn(head: Buffer): string[] {
  return wrappings.filter(([, at, magic]) => head.subarray(at, at + magic.length).equals(magic)).map(([name]) => name)
}
