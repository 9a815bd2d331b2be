// Free clusters of NTFS, from its file $Bitmap, if the volume was unmounted cleanly. Format: Linux-NTFS documentation,
// "$Boot", "FILE record", "Data runs"; layouts as in ntfs-3g's layout.h.
import { eachZeroRun, type FileSystem, Unclear, u64le, type Volume } from './volume.ts'

export const ntfs: FileSystem = {
  name: 'ntfs',
  isIn: (head) => head.length >= 512 && head.toString('latin1', 3, 11) === 'NTFS    ',
  markFree,
}

const logFileRecord = 2
const volumeRecord = 3
const bitmapRecord = 6

type Layout = {
  readonly clusterBytes: number
  readonly clusters: number
  readonly mft: number
  readonly recordBytes: number
}

async function markFree(volume: Volume, head: Buffer): Promise<void> {
  const layout = readLayout(head, volume.sizeBytes)
  await checkClean(volume, layout)
  const bitmap = attributeOf(await readRecord(volume, layout, bitmapRecord), 0x80)
  if (bitmap.sizeBytes * 8 < layout.clusters) throw new Unclear('its bitmap is too short')
  let cluster = 0
  for await (const part of contentOf(volume, layout, bitmap)) {
    const bits = Math.min(part.length * 8, layout.clusters - cluster)
    if (bits <= 0) break
    const base = cluster
    eachZeroRun(part, bits, (first, count) => {
      volume.free((base + first) * layout.clusterBytes, count * layout.clusterBytes)
    })
    cluster += bits
  }
  if (cluster < layout.clusters) throw new Unclear('its bitmap is cut off')
}

function readLayout(boot: Buffer, volumeBytes: number): Layout {
  const sectorBytes = boot.readUInt16LE(11)
  const perCluster = boot.readUInt8(13)
  const sectors = perCluster > 0x80 ? 2 ** (256 - perCluster) : perCluster
  const clusterBytes = sectorBytes * sectors
  if (![512, 1024, 2048, 4096].includes(sectorBytes) || sectors < 1 || clusterBytes > 2 * 1024 * 1024) {
    throw new Unclear('its clusters have no sound size')
  }
  if ((clusterBytes & (clusterBytes - 1)) !== 0) throw new Unclear('its clusters have no sound size')
  const size = u64le(boot, 40) * sectorBytes
  if (size > volumeBytes) throw new Unclear(`it has ${size} bytes, its place ${volumeBytes}`)
  const perRecord = boot.readInt8(64)
  const recordBytes = perRecord > 0 ? perRecord * clusterBytes : 2 ** -perRecord
  if (![512, 1024, 2048, 4096].includes(recordBytes)) throw new Unclear('its records have no sound size')
  return { clusterBytes, clusters: Math.floor(size / clusterBytes), mft: u64le(boot, 48), recordBytes }
}

/** The volume's own word, and its log's: Windows that sleeps says nothing in the first and leaves the second open. */
async function checkClean(volume: Volume, layout: Layout): Promise<void> {
  const information = attributeOf(await readRecord(volume, layout, volumeRecord), 0x70)
  if (information.bytes === undefined || information.bytes.length < 12)
    throw new Unclear('its volume information is damaged')
  if ((information.bytes.readUInt16LE(10) & 1) !== 0) throw new Unclear('it is marked dirty: run chkdsk')
  const log = attributeOf(await readRecord(volume, layout, logFileRecord), 0x80)
  const first = await firstBytes(volume, layout, log, 64 * 1024)
  const pageBytes = first.toString('latin1', 0, 4) === 'RSTR' ? first.readUInt32LE(16) : 4096
  if (pageBytes < 512 || pageBytes > 32_768) throw new Unclear('its log is damaged')
  for (const page of [first.subarray(0, pageBytes), first.subarray(pageBytes, 2 * pageBytes)]) {
    // A log that was emptied is all ones.
    if (page.length < 64 || page.readUInt32LE(0) === 0xffffffff) continue
    const area = page.readUInt16LE(24)
    if (page.toString('latin1', 0, 4) !== 'RSTR' || area + 16 > page.length) throw new Unclear('its log is damaged')
    const isClosed = page.readUInt16LE(area + 12) === 0xffff || (page.readUInt16LE(area + 14) & 2) !== 0
    if (!isClosed) throw new Unclear('its log is open: it was not unmounted, or its system sleeps')
  }
}

/** One of the first sixteen records, which always lie one behind the other. */
async function readRecord(volume: Volume, { mft, clusterBytes, recordBytes }: Layout, number: number): Promise<Buffer> {
  const record = Buffer.from(await volume.read(mft * clusterBytes + number * recordBytes, recordBytes))
  const damaged = () => new Unclear(`record ${number} is damaged`)
  const [fixups, count] = [record.readUInt16LE(4), record.readUInt16LE(6)]
  if (record.toString('latin1', 0, 4) !== 'FILE' || count !== recordBytes / 512 + 1) throw damaged()
  if (fixups + count * 2 > recordBytes) throw damaged()
  const stamp = record.readUInt16LE(fixups)
  for (let sector = 1; sector < count; sector++) {
    // The last two bytes of each sector stand elsewhere; in their place is a stamp that a torn write does not have.
    if (record.readUInt16LE(sector * 512 - 2) !== stamp) throw damaged()
    record.writeUInt16LE(record.readUInt16LE(fixups + sector * 2), sector * 512 - 2)
  }
  return record
}

/** An attribute's content: in the record itself, or where its runs are. */
type Attribute = { readonly sizeBytes: number; readonly bytes?: Buffer; readonly runs?: Buffer }

/** The unnamed attribute of this type. Attributes that are spread over several records are Unclear. */
function attributeOf(record: Buffer, type: number): Attribute {
  for (let at = record.readUInt16LE(20); at + 24 <= record.length; ) {
    const found = record.readUInt32LE(at)
    if (found === 0xffffffff) break
    const length = record.readUInt32LE(at + 4)
    if (length < 24 || at + length > record.length) throw new Unclear('an attribute is damaged')
    const attribute = record.subarray(at, at + length)
    at += length
    if (found !== type || attribute.readUInt8(9) !== 0) continue
    if (attribute.readUInt16LE(12) !== 0) throw new Unclear('an attribute is compressed, encrypted or sparse')
    if (attribute.readUInt8(8) === 0) {
      const [bytes, offset] = [attribute.readUInt32LE(16), attribute.readUInt16LE(20)]
      if (offset + bytes > length) throw new Unclear('an attribute is damaged')
      return { sizeBytes: bytes, bytes: attribute.subarray(offset, offset + bytes) }
    }
    if (length < 64 || u64le(attribute, 16) !== 0) throw new Unclear('an attribute is spread over several records')
    return { sizeBytes: u64le(attribute, 48), runs: attribute.subarray(attribute.readUInt16LE(32)) }
  }
  throw new Unclear(`an attribute of type 0x${type.toString(16)} is missing`)
}

const partBytes = 1024 * 1024

async function* contentOf(volume: Volume, layout: Layout, attribute: Attribute): AsyncGenerator<Buffer, void> {
  if (attribute.bytes !== undefined) {
    yield attribute.bytes
    return
  }
  let left = attribute.sizeBytes
  for (const { cluster, count } of runsOf(attribute.runs ?? Buffer.alloc(0))) {
    for (let done = 0; done < count * layout.clusterBytes && left > 0; ) {
      const length = Math.min(partBytes, count * layout.clusterBytes - done, left)
      yield await volume.read(cluster * layout.clusterBytes + done, length)
      done += length
      left -= length
    }
  }
}

async function firstBytes(volume: Volume, layout: Layout, attribute: Attribute, bytes: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of contentOf(volume, layout, {
    ...attribute,
    sizeBytes: Math.min(attribute.sizeBytes, bytes),
  })) {
    parts.push(part)
    length += part.length
    if (length >= bytes) break
  }
  if (length < 4096) throw new Unclear('its log is too short')
  return Buffer.concat(parts)
}

/** Runs of clusters: a byte with the two lengths, how many clusters, where from the last one. */
function runsOf(bytes: Buffer): { cluster: number; count: number }[] {
  const runs: { cluster: number; count: number }[] = []
  let cluster = 0
  for (let at = 0; at < bytes.length; ) {
    const lengths = bytes.readUInt8(at)
    if (lengths === 0) return runs
    const [countBytes, placeBytes] = [lengths & 0xf, lengths >> 4]
    // A run without a place is a hole, of which a bitmap and a log have none.
    if (countBytes < 1 || countBytes > 6 || placeBytes < 1 || placeBytes > 6) throw new Unclear('a run is damaged')
    if (at + 1 + countBytes + placeBytes > bytes.length) throw new Unclear('a run is cut off')
    const count = bytes.readUIntLE(at + 1, countBytes)
    cluster += bytes.readIntLE(at + 1 + countBytes, placeBytes)
    if (cluster < 0 || count < 1) throw new Unclear('a run is damaged')
    runs.push({ cluster, count })
    at += 1 + countBytes + placeBytes
  }
  return runs
}
