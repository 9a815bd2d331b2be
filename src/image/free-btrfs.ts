// Free bytes of btrfs on one device: what no chunk takes, and in chunks what no extent takes. From the chunk tree and the
// extent tree, checked against the superblock's sum. Format: btrfs.readthedocs.io, "On-disk format".
import { type FileSystem, Unclear, u64le, type Volume } from './volume.ts'

const superblockAt = 64 * 1024
/** mixed_backref, default_subvol, mixed_groups, the compressions, big_metadata, extended_iref, skinny_metadata, no_holes, metadata_uuid, simple_quota. */
const understood = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x10000
/** free_space_tree and its valid flag, verity, block_group_tree. */
const understoodRo = 0x1 | 0x2 | 0x4 | 0x8
const chunksMax = 64 * 1024
const dup = 32
const profiles = 0x7f8

const [chunkItem, rootItem, extentItem, metadataItem] = [228, 132, 168, 169]
const extentTree = 2

export const btrfs: FileSystem = {
  name: 'btrfs',
  isIn: (head) =>
    head.length >= superblockAt + 4096 && head.toString('latin1', superblockAt + 64, superblockAt + 72) === '_BHRfS_M',
  markFree,
}

type Superblock = {
  readonly root: number
  readonly chunkRoot: number
  readonly totalBytes: number
  readonly usedBytes: number
  readonly nodeBytes: number
  readonly deviceId: number
  readonly systemChunks: Buffer
}

/** A range of logical addresses and where on the device it lies, twice under `dup`. */
type Chunk = { readonly logical: number; readonly length: number; readonly places: readonly number[] }

type Item = { readonly objectId: number; readonly type: number; readonly offset: number; readonly data: Buffer }

async function markFree(volume: Volume, head: Buffer): Promise<void> {
  const sb = readSuperblock(head.subarray(superblockAt, superblockAt + 4096), volume.sizeBytes)
  const system = readSystemChunks(sb)
  const chunks: Chunk[] = []
  const reach = { volume, nodeBytes: sb.nodeBytes, nodes: { left: Math.ceil(sb.totalBytes / sb.nodeBytes) } }
  for await (const item of items({ ...reach, chunks: system }, sb.chunkRoot)) {
    if (item.type === chunkItem) chunks.push(readChunk(item.offset, item.data, sb.deviceId))
    if (chunks.length > chunksMax) throw new Unclear(`it has more than ${chunksMax} chunks`)
  }
  chunks.sort((a, b) => a.logical - b.logical)
  checkChunks(chunks, sb.totalBytes)
  volume.free(0, sb.totalBytes)
  // The system's chunks hold the chunk tree, whose extents the extent tree has like all others.
  const world = { ...reach, chunks }
  let used = 0
  let end = 0
  for await (const item of items(world, await extentRoot(world, sb.root))) {
    if (item.type !== extentItem && item.type !== metadataItem) continue
    const length = item.type === extentItem ? item.offset : sb.nodeBytes
    if (item.objectId < end || length < 1) throw new Unclear('its extents overlap')
    end = item.objectId + length
    used += length
    for (const place of placesOf(chunks, item.objectId, length)) volume.keep(place, length)
  }
  if (used !== sb.usedBytes) throw new Unclear(`its extents have ${used} bytes and it says ${sb.usedBytes}`)
}

function readSuperblock(sb: Buffer, volumeBytes: number): Superblock {
  const [incompat, ro] = [u64le(sb, 0xbc), u64le(sb, 0xb4)]
  if (incompat >= 2 ** 31 || ro >= 2 ** 31 || (incompat & ~understood) !== 0 || (ro & ~understoodRo) !== 0) {
    throw new Unclear('it has unknown features')
  }
  if (u64le(sb, 0x60) !== 0) throw new Unclear('its log must be replayed')
  if (u64le(sb, 0x88) !== 1) throw new Unclear('it has several devices')
  const [totalBytes, nodeBytes] = [u64le(sb, 0x70), sb.readUInt32LE(0x94)]
  if (totalBytes > volumeBytes) throw new Unclear(`it has ${totalBytes} bytes, its place ${volumeBytes}`)
  if (nodeBytes < 4096 || nodeBytes > 65_536 || (nodeBytes & (nodeBytes - 1)) !== 0)
    throw new Unclear('its nodes have no sound size')
  const systemBytes = sb.readUInt32LE(0xa0)
  if (systemBytes > 2048) throw new Unclear('its superblock is damaged')
  return {
    root: u64le(sb, 0x50),
    chunkRoot: u64le(sb, 0x58),
    totalBytes,
    usedBytes: u64le(sb, 0x78),
    nodeBytes,
    deviceId: u64le(sb, 0xc9),
    systemChunks: sb.subarray(0x32b, 0x32b + systemBytes),
  }
}

function readSystemChunks(sb: Superblock): Chunk[] {
  const chunks: Chunk[] = []
  for (let at = 0; at + 17 + 48 <= sb.systemChunks.length; ) {
    const logical = u64le(sb.systemChunks, at + 9)
    const data = sb.systemChunks.subarray(at + 17)
    chunks.push(readChunk(logical, data, sb.deviceId))
    at += 17 + 48 + 32 * data.readUInt16LE(44)
  }
  return chunks
}

function readChunk(logical: number, data: Buffer, deviceId: number): Chunk {
  if (data.length < 48) throw new Unclear('a chunk is damaged')
  const stripes = data.readUInt16LE(44)
  const profile = u64le(data, 24) & profiles
  const isPlain = profile === 0 && stripes === 1
  if (!isPlain && !(profile === dup && stripes === 2)) throw new Unclear('it is spread over devices')
  if (data.length < 48 + 32 * stripes) throw new Unclear('a chunk is damaged')
  const places = Array.from({ length: stripes }, (_, stripe) => {
    if (u64le(data, 48 + stripe * 32) !== deviceId) throw new Unclear('a chunk lies on another device')
    return u64le(data, 48 + stripe * 32 + 8)
  })
  return { logical, length: u64le(data, 0), places }
}

/** No two chunks may share a byte, in either space. */
function checkChunks(chunks: readonly Chunk[], totalBytes: number): void {
  const physical = chunks.flatMap(({ places, length }) => places.map((from) => ({ from, end: from + length })))
  const logical = chunks.map(({ logical: from, length }) => ({ from, end: from + length }))
  for (const ranges of [physical.sort((a, b) => a.from - b.from), logical]) {
    let last = 0
    for (const { from, end } of ranges) {
      if (from < last || end <= from) throw new Unclear('its chunks overlap')
      last = end
    }
  }
  if ((physical.at(-1)?.end ?? 0) > totalBytes) throw new Unclear('a chunk lies behind its end')
}

/** Where on the device a logical range lies, by a search: extents come in order, and there are many. */
function placesOf(chunks: readonly Chunk[], logical: number, length: number): number[] {
  let [low, high] = [0, chunks.length - 1]
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if ((chunks[middle]?.logical ?? 0) <= logical) low = middle
    else high = middle - 1
  }
  const chunk = chunks[low]
  if (chunk === undefined || logical < chunk.logical || logical + length > chunk.logical + chunk.length) {
    throw new Unclear(`the address ${logical} lies in no chunk`)
  }
  return chunk.places.map((place) => place + logical - chunk.logical)
}

type Reach = {
  readonly volume: Volume
  readonly nodeBytes: number
  readonly chunks: readonly Chunk[]
  /** No tree can have more nodes than there is room for. */
  readonly nodes: { left: number }
}

async function extentRoot(reach: Reach, root: number): Promise<number> {
  for await (const { objectId, type, data } of items(reach, root)) {
    if (objectId === extentTree && type === rootItem && data.length >= 184) return u64le(data, 176)
  }
  throw new Unclear('it has no extent tree')
}

/** The items of a tree in order. Throws Unclear for nodes that are not where and what they should be. */
async function* items(reach: Reach, address: number, level?: number): AsyncGenerator<Item, void> {
  const damaged = () => new Unclear(`the node at ${address} is damaged`)
  if (--reach.nodes.left < 0) throw new Unclear('its trees have more nodes than there is room for')
  const [place] = placesOf(reach.chunks, address, reach.nodeBytes)
  const node = await reach.volume.read(place ?? 0, reach.nodeBytes)
  const [count, own] = [node.readUInt32LE(96), node.readUInt8(100)]
  if (u64le(node, 48) !== address || own > 7 || (level !== undefined && own !== level)) throw damaged()
  if (count > (node.length - 101) / (own === 0 ? 25 : 33)) throw damaged()
  for (let number = 0; number < count; number++) {
    const at = 101 + number * (own === 0 ? 25 : 33)
    if (own > 0) {
      yield* items(reach, u64le(node, at + 17), own - 1)
      continue
    }
    const [from, bytes] = [101 + node.readUInt32LE(at + 17), node.readUInt32LE(at + 21)]
    if (from + bytes > node.length) throw damaged()
    // Ids below zero, as the trees of relocation have, and offsets that are hashes: those items are not what is looked for.
    const [objectId, offset] = [Number(node.readBigUInt64LE(at)), Number(node.readBigUInt64LE(at + 9))]
    yield { objectId, type: node.readUInt8(at + 8), offset, data: node.subarray(from, from + bytes) }
  }
}
