// What the tables of a disk say: its logical sector size, where it should end, where its partitions are. Only a table that
// proves itself (GPT by its CRC, UEFI 2.10 section 5.3; MBR by being plausible as a whole) is believed.
import { crc32 } from 'node:zlib'
import type { Content } from './volume.ts'

export type PartitionTable = {
  readonly kind: 'gpt' | 'mbr'
  readonly sectorBytes: 512 | 4096
  /** The disk cannot be shorter than this, in bytes. */
  readonly endBytes: number
}

/** A part of a disk, in bytes; `number` as the operating system counts. */
export type Partition = { readonly number: number; readonly offset: number; readonly sizeBytes: number }

/** Bytes from the start of a disk that `readPartitionTable` looks at. */
export const partitionTableBytes = 8192

/** Reads the table at the start of a disk (`partitionTableBytes`, or all of a smaller disk); undefined when there is none. */
export function readPartitionTable(head: Buffer): PartitionTable | undefined {
  return readGpt(head, 512) ?? readGpt(head, 4096) ?? readMbr(head)
}

/**
 * The partitions of a disk that has this table, those that lie within it and share no byte with another: what overlaps, no
 * file system can speak for. Undefined when the table's entries cannot be believed.
 */
export async function readPartitions(disk: Content, table: PartitionTable): Promise<Partition[] | undefined> {
  const all = table.kind === 'gpt' ? await readGptEntries(disk, table.sectorBytes) : await readMbrEntries(disk)
  if (all === undefined) return undefined
  const inside = all.filter(({ offset, sizeBytes }) => sizeBytes > 0 && offset + sizeBytes <= disk.sizeBytes)
  return inside.filter((one) =>
    inside.every(
      (other) =>
        other === one || other.offset + other.sizeBytes <= one.offset || one.offset + one.sizeBytes <= other.offset,
    ),
  )
}

function readGpt(head: Buffer, sectorBytes: 512 | 4096): PartitionTable | undefined {
  const header = gptHeader(head, sectorBytes)
  if (header === undefined) return undefined
  const backup = header.readBigUInt64LE(32)
  const lastUsable = header.readBigUInt64LE(48)
  const last = backup > lastUsable ? backup : lastUsable
  return { kind: 'gpt', sectorBytes, endBytes: (Number(last) + 1) * sectorBytes }
}

/** The header at the second sector, if its checksum is right. */
function gptHeader(head: Buffer, sectorBytes: number): Buffer | undefined {
  if (head.length < 2 * sectorBytes) return undefined
  const sector = head.subarray(sectorBytes, 2 * sectorBytes)
  if (sector.toString('latin1', 0, 8) !== 'EFI PART') return undefined
  const headerBytes = sector.readUInt32LE(12)
  if (headerBytes < 92 || headerBytes > sectorBytes) return undefined
  const header = Buffer.from(sector.subarray(0, headerBytes))
  header.writeUInt32LE(0, 16)
  if (crc32(header) !== sector.readUInt32LE(16) || sector.readBigUInt64LE(24) !== 1n) return undefined
  return header
}

/** More entries than any tool makes; the checksum needs them all. */
const gptEntriesMax = 1024

async function readGptEntries(disk: Content, sectorBytes: number): Promise<Partition[] | undefined> {
  const header = gptHeader(await disk.read(0, Math.min(partitionTableBytes, disk.sizeBytes)), sectorBytes)
  if (header === undefined) return undefined
  const at = Number(header.readBigUInt64LE(72)) * sectorBytes
  const [count, entryBytes] = [header.readUInt32LE(80), header.readUInt32LE(84)]
  if (count > gptEntriesMax || entryBytes < 128 || entryBytes > 4096) return undefined
  if (at + count * entryBytes > disk.sizeBytes) return undefined
  const entries = await disk.read(at, count * entryBytes)
  if (crc32(entries) !== header.readUInt32LE(88)) return undefined
  return Array.from({ length: count }, (_, index) =>
    entries.subarray(index * entryBytes, (index + 1) * entryBytes),
  ).flatMap((entry, index) => {
    if (entry.subarray(0, 16).every((byte) => byte === 0)) return []
    const [first, last] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))]
    return [{ number: index + 1, offset: first * sectorBytes, sizeBytes: (last - first + 1) * sectorBytes }]
  })
}

type MbrEntry = { readonly type: number; readonly start: number; readonly sectors: number }

function mbrEntries(sector: Buffer): MbrEntry[] | undefined {
  const entries: MbrEntry[] = []
  for (let at = 446; at < 510; at += 16) {
    const status = sector.readUInt8(at)
    if (status !== 0 && status !== 0x80) return undefined
    const entry = {
      type: sector.readUInt8(at + 4),
      start: sector.readUInt32LE(at + 8),
      sectors: sector.readUInt32LE(at + 12),
    }
    entries.push(entry)
  }
  return entries
}

function readMbr(head: Buffer): PartitionTable | undefined {
  if (head.length < 512 || head.readUInt16LE(510) !== 0xaa55 || isVolumeBootRecord(head)) return undefined
  const parts: { start: number; end: number }[] = []
  const entries = mbrEntries(head)
  if (entries === undefined) return undefined
  for (const { type, start, sectors } of entries) {
    // A protective entry (0xee) covers the disk that the tool had in mind, in sectors of any size; the GPT knows better.
    if (type === 0xee) return undefined
    if (type === 0) continue
    // Hybrid ISO images start a partition at sector 0: their table describes the file loosely.
    if (start === 0 || sectors === 0) return undefined
    parts.push({ start, end: start + sectors })
  }
  parts.sort((a, b) => a.start - b.start)
  const overlap = parts.some((part, i) => i > 0 && part.start < (parts[i - 1]?.end ?? 0))
  const last = parts.at(-1)
  if (overlap || last === undefined) return undefined
  // Sectors of 4096 bytes would make the disk longer: this is the least it can be.
  return { kind: 'mbr', sectorBytes: 512, endBytes: last.end * 512 }
}

const extendedTypes = [0x05, 0x0f, 0x85]
/** Links of the chain of logical partitions that are followed. */
const logicalMax = 128

/** The primary partitions and, from 5 on, the logical ones: each has a table of its own that names it and the next table. */
async function readMbrEntries(disk: Content): Promise<Partition[] | undefined> {
  const primary = mbrEntries(await disk.read(0, 512))
  if (primary === undefined) return undefined
  const found: Partition[] = []
  const add = (number: number, start: number, sectors: number) =>
    found.push({ number, offset: start * 512, sizeBytes: sectors * 512 })
  for (const [index, { type, start, sectors }] of primary.entries()) {
    if (type !== 0 && !extendedTypes.includes(type)) add(index + 1, start, sectors)
  }
  const extended = primary.find(({ type }) => extendedTypes.includes(type))
  if (extended === undefined) return found
  let table: number | undefined = extended.start
  for (let number = 5; table !== undefined; number++) {
    if (number - 5 >= logicalMax || (table + 1) * 512 > disk.sizeBytes) return undefined
    const sector: Buffer = await disk.read(table * 512, 512)
    const [own, next] = sector.readUInt16LE(510) === 0xaa55 ? (mbrEntries(sector) ?? []) : []
    if (own === undefined || next === undefined) return undefined
    if (own.type !== 0) add(number, table + own.start, own.sectors)
    table = next.type === 0 ? undefined : extended.start + next.start
  }
  return found
}

/** A bare FAT or NTFS volume ends its first sector as an MBR does, with code where the MBR has its table. */
function isVolumeBootRecord(head: Buffer): boolean {
  const isFat = [512, 1024, 2048, 4096].includes(head.readUInt16LE(11)) && head.readUInt8(21) >= 0xf0
  return isFat || head.toString('latin1', 3, 7) === 'NTFS'
}
