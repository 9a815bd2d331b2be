// Free clusters of FAT12, FAT16 and FAT32: those whose entry is zero in every copy of the table. Format: Microsoft FAT
// specification, 2005. A cluster that is marked bad has an entry and is kept.
import { type FileSystem, Unclear, type Volume } from './volume.ts'

export const fat: FileSystem = {
  name: 'fat',
  isIn: (head) => head.length >= 512 && head.readUInt16LE(510) === 0xaa55 && layoutOf(head) !== undefined,
  markFree,
}

type Layout = {
  readonly entryBits: 12 | 16 | 32
  readonly sectorBytes: number
  readonly clusterBytes: number
  readonly clusters: number
  readonly tables: number
  readonly tableStart: number
  readonly tableBytes: number
  readonly dataStart: number
  readonly sizeBytes: number
  /** The byte in which Linux says that the volume is mounted. */
  readonly state: number
}

/** Undefined when these are no parameters that FAT could have. */
function layoutOf(boot: Buffer): Layout | undefined {
  const jump = boot.readUInt8(0)
  const [sectorBytes, perCluster, reserved] = [boot.readUInt16LE(11), boot.readUInt8(13), boot.readUInt16LE(14)]
  const [tables, rootEntries, media] = [boot.readUInt8(16), boot.readUInt16LE(17), boot.readUInt8(21)]
  const isSound =
    (jump === 0xeb || jump === 0xe9) &&
    [512, 1024, 2048, 4096].includes(sectorBytes) &&
    perCluster > 0 &&
    (perCluster & (perCluster - 1)) === 0 &&
    reserved > 0 &&
    (tables === 1 || tables === 2) &&
    media >= 0xf0
  if (!isSound) return undefined
  const sectors = boot.readUInt16LE(19) || boot.readUInt32LE(32)
  const isLong = boot.readUInt16LE(22) === 0
  const tableSectors = boot.readUInt16LE(22) || boot.readUInt32LE(36)
  const rootSectors = Math.ceil((rootEntries * 32) / sectorBytes)
  const dataSector = reserved + tables * tableSectors + rootSectors
  const clusters = Math.floor((sectors - dataSector) / perCluster)
  if (tableSectors === 0 || clusters < 1) return undefined
  const entryBits = isLong ? 32 : clusters < 4085 ? 12 : 16
  if (!isLong && clusters >= 65_525) return undefined
  const tableBytes = tableSectors * sectorBytes
  if (((clusters + 2) * entryBits) / 8 > tableBytes) return undefined
  return {
    entryBits,
    sectorBytes,
    clusterBytes: perCluster * sectorBytes,
    clusters,
    tables,
    tableStart: reserved * sectorBytes,
    tableBytes,
    dataStart: dataSector * sectorBytes,
    sizeBytes: sectors * sectorBytes,
    state: boot.readUInt8(isLong ? 65 : 37),
  }
}

/** Entries looked at in one go: a whole number of bytes in each width. */
const entriesAtOnce = 256 * 1024

async function markFree(volume: Volume, head: Buffer): Promise<void> {
  const layout = layoutOf(head)
  if (layout === undefined) throw new Unclear('its boot sector is damaged')
  if (layout.sizeBytes > volume.sizeBytes)
    throw new Unclear(`it has ${layout.sizeBytes} bytes, its place ${volume.sizeBytes}`)
  if ((layout.state & 1) !== 0) throw new Unclear('it is marked mounted')
  const { entryBits, clusters } = layout
  const total = clusters + 2
  for (let from = 0; from < total; from += entriesAtOnce) {
    const entries = Math.min(entriesAtOnce, total - from)
    const tables: Buffer[] = []
    for (let table = 0; table < layout.tables; table++) {
      const at = layout.tableStart + table * layout.tableBytes + (from * entryBits) / 8
      tables.push(await volume.read(at, Math.ceil((entries * entryBits) / 8)))
    }
    if (from === 0) checkClean(tables[0], entryBits)
    const isFree = (entry: number) => tables.every((table) => entryOf(table, entry, entryBits) === 0)
    let run = 0
    for (let entry = from === 0 ? 2 : 0; entry <= entries; entry++) {
      if (entry < entries && isFree(entry)) run++
      else if (run > 0) {
        const cluster = from + entry - run - 2
        volume.free(layout.dataStart + cluster * layout.clusterBytes, run * layout.clusterBytes)
        run = 0
      }
    }
  }
}

/** Entry 1 says whether the volume was unmounted, and free of errors of the disk. */
function checkClean(table: Buffer | undefined, entryBits: Layout['entryBits']): void {
  if (table === undefined || entryBits === 12) return
  const flags = entryOf(table, 1, entryBits) >>> (entryBits === 16 ? 14 : 26)
  if ((flags & 3) !== 3) throw new Unclear('it was not unmounted cleanly or has errors')
}

function entryOf(table: Buffer, entry: number, entryBits: Layout['entryBits']): number {
  if (entryBits === 16) return table.readUInt16LE(entry * 2)
  // The upper four bits mean nothing.
  if (entryBits === 32) return table.readUInt32LE(entry * 4) & 0x0fffffff
  const pair = table.readUInt8((entry * 3) >> 1) | ((table[((entry * 3) >> 1) + 1] ?? 0xff) << 8)
  return (entry & 1) === 0 ? pair & 0xfff : pair >> 4
}
