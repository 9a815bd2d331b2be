// The GUID partition table as far as the agent needs it (UEFI 2.10, section 5.3): is there one, where is its EFI system
// partition. Reads the beginning of a disk; pure.

export type EfiSystemPartition = {
  /** 1 for the first row of the table, as boot entries count. */
  readonly number: number
  /** The partition's own GUID, lower case. */
  readonly uuid: string
}

const efiSystemType = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b'
const noType = '00000000-0000-0000-0000-000000000000'
/** Tables have 128 rows; a header that says much more is no header. */
const entriesMax = 1024

/** True when sector 1 of the disk that begins with `head` is a GPT header. */
export function hasGpt(head: Buffer, sectorBytes: number): boolean {
  return head.length >= 2 * sectorBytes && head.toString('latin1', sectorBytes, sectorBytes + 8) === 'EFI PART'
}

/** The GUIDs of the partitions in the table, lower case; none when there is no table. */
export function partitionUuids(head: Buffer, sectorBytes: number): readonly string[] {
  return rowsOf(head, sectorBytes).map(({ uuid }) => uuid)
}

/** The first EFI system partition in the table; undefined when there is no table or none in it. */
export function findEfiSystemPartition(head: Buffer, sectorBytes: number): EfiSystemPartition | undefined {
  const row = rowsOf(head, sectorBytes).find(({ type }) => type === efiSystemType)
  return row && { number: row.number, uuid: row.uuid }
}

type Row = EfiSystemPartition & { readonly type: string }

/** The rows that name a partition, as far as they lie in `head`. */
function rowsOf(head: Buffer, sectorBytes: number): readonly Row[] {
  if (!hasGpt(head, sectorBytes)) return []
  const entriesAt = Number(head.readBigUInt64LE(sectorBytes + 72)) * sectorBytes
  const entries = Math.min(entriesMax, head.readUInt32LE(sectorBytes + 80))
  const entryBytes = head.readUInt32LE(sectorBytes + 84)
  if (entryBytes < 128) return []
  const rows: Row[] = []
  for (let index = 0; index < entries; index++) {
    const at = entriesAt + index * entryBytes
    if (at + entryBytes > head.length) break
    const type = readGuid(head, at)
    if (type !== noType) rows.push({ number: index + 1, uuid: readGuid(head, at + 16), type })
  }
  return rows
}

/** The first three fields of a GUID on disk are little-endian, the rest are bytes in order. */
function readGuid(bytes: Buffer, at: number): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')
  const rest = bytes.toString('hex', at + 8, at + 16)
  const first = hex(bytes.readUInt32LE(at), 8)
  const [second, third] = [hex(bytes.readUInt16LE(at + 4), 4), hex(bytes.readUInt16LE(at + 6), 4)]
  return `${first}-${second}-${third}-${rest.slice(0, 4)}-${rest.slice(4)}`
}
