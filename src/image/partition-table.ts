// What the start of a disk says of the disk: its logical sector size, and where it should end. Only a table that proves
// itself (GPT by its CRC, UEFI 2.10 section 5.3.2; MBR by being plausible as a whole) is believed. Pure.
import { crc32 } from 'node:zlib'

export type PartitionTable = {
  readonly kind: 'gpt' | 'mbr'
  readonly sectorBytes: 512 | 4096
  /** The disk cannot be shorter than this, in bytes. */
  readonly endBytes: number
}

/** Bytes from the start of a disk that `readPartitionTable` looks at. */
export const partitionTableBytes = 8192

/** Reads the table at the start of a disk (`partitionTableBytes`, or all of a smaller disk); undefined when there is none. */
export function readPartitionTable(head: Buffer): PartitionTable | undefined {
  return readGpt(head, 512) ?? readGpt(head, 4096) ?? readMbr(head)
}

function readGpt(head: Buffer, sectorBytes: 512 | 4096): PartitionTable | undefined {
  if (head.length < 2 * sectorBytes) return undefined
  const sector = head.subarray(sectorBytes, 2 * sectorBytes)
  if (sector.toString('latin1', 0, 8) !== 'EFI PART') return undefined
  const headerBytes = sector.readUInt32LE(12)
  if (headerBytes < 92 || headerBytes > sectorBytes) return undefined
  const header = Buffer.from(sector.subarray(0, headerBytes))
  header.writeUInt32LE(0, 16)
  if (crc32(header) !== sector.readUInt32LE(16) || sector.readBigUInt64LE(24) !== 1n) return undefined
  const backup = sector.readBigUInt64LE(32)
  const lastUsable = sector.readBigUInt64LE(48)
  const last = backup > lastUsable ? backup : lastUsable
  return { kind: 'gpt', sectorBytes, endBytes: (Number(last) + 1) * sectorBytes }
}

function readMbr(head: Buffer): PartitionTable | undefined {
  if (head.length < 512 || head.readUInt16LE(510) !== 0xaa55 || isVolumeBootRecord(head)) return undefined
  const parts: { start: number; end: number }[] = []
  for (let at = 446; at < 510; at += 16) {
    const status = head.readUInt8(at)
    const type = head.readUInt8(at + 4)
    const start = head.readUInt32LE(at + 8)
    const sectors = head.readUInt32LE(at + 12)
    // A protective entry (0xee) covers the disk that the tool had in mind, in sectors of any size; the GPT knows better.
    if ((status !== 0 && status !== 0x80) || type === 0xee) return undefined
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

/** A bare FAT or NTFS volume ends its first sector as an MBR does, with code where the MBR has its table. */
function isVolumeBootRecord(head: Buffer): boolean {
  const isFat = [512, 1024, 2048, 4096].includes(head.readUInt16LE(11)) && head.readUInt8(21) >= 0xf0
  return isFat || head.toString('latin1', 3, 7) === 'NTFS'
}
