// Free blocks of ext2, ext3 and ext4, from the block bitmaps of its groups. Format: kernel Documentation/filesystems/ext4,
// "Super Block", "Block Group Descriptors"; fs/ext4/balloc.c for groups whose bitmap was never written.
import { eachZeroRun, type FileSystem, Unclear, type Volume } from './volume.ts'

const needsRecovery = 0x4
const metaBg = 0x10
const sixtyFourBit = 0x80
/**
 * Incompatible features under which the bitmaps say all: filetype, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed,
 * large_dir, inline_data, encrypt, casefold.
 */
const understood =
  0x2 | metaBg | 0x40 | sixtyFourBit | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000

const sparseSuper = 0x1
const gdtChecksums = 0x10
const bigalloc = 0x200
const metadataChecksums = 0x400
/** Others would have blocks that no bitmap knows, or an end that was not clean (orphan_present, 0x10000). */
const understoodRo =
  0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | bigalloc | metadataChecksums | 0x1000 | 0x2000 | 0x8000

const sparseSuper2 = 0x200
const blockUninit = 0x2
const groupsMax = 1024 * 1024

export const ext: FileSystem = {
  name: 'ext4',
  isIn: (head) => head.length >= 2048 && head.readUInt16LE(1024 + 56) === 0xef53,
  markFree,
}

type Layout = {
  readonly blockBytes: number
  readonly clusterBytes: number
  readonly firstBlock: number
  readonly blocks: number
  readonly blocksPerGroup: number
  readonly inodeTableBlocks: number
  readonly descriptorBytes: number
  readonly groups: number
  readonly firstMetaBg: number | undefined
  readonly reservedGdtBlocks: number
  readonly hasSuper: (group: number) => boolean
  readonly hasUninit: boolean
}

type Group = {
  readonly bitmap: number
  readonly inodeBitmap: number
  readonly inodeTable: number
  readonly flags: number
  readonly free: number
}

async function markFree(volume: Volume, head: Buffer): Promise<void> {
  const layout = readLayout(head.subarray(1024, 2048), volume.sizeBytes)
  const groups = await readGroups(volume, layout)
  const uninit: number[] = []
  for (const [number, group] of groups.entries()) {
    const first = layout.firstBlock + number * layout.blocksPerGroup
    const blocks = Math.min(layout.blocksPerGroup, layout.blocks - first)
    if (layout.hasUninit && (group.flags & blockUninit) !== 0) {
      uninit.push(number)
      // Clusters of such a group hold parts of metadata that this does not work out.
      if (layout.clusterBytes === layout.blockBytes) volume.free(first * layout.blockBytes, blocks * layout.blockBytes)
      continue
    }
    const bitmap = await volume.read(group.bitmap * layout.blockBytes, layout.blockBytes)
    const clusters = Math.ceil((blocks * layout.blockBytes) / layout.clusterBytes)
    const end = (first + blocks) * layout.blockBytes
    const free = eachZeroRun(bitmap, clusters, (from, count) => {
      const at = first * layout.blockBytes + from * layout.clusterBytes
      volume.free(at, Math.min(count * layout.clusterBytes, end - at))
    })
    if (free !== group.free) throw new Unclear(`group ${number} has ${free} free blocks and says ${group.free}`)
  }
  keepMetadata(volume, layout, groups, uninit)
}

function readLayout(sb: Buffer, volumeBytes: number): Layout {
  const [compat, incompat, ro] = [sb.readUInt32LE(92), sb.readUInt32LE(96), sb.readUInt32LE(100)]
  if ((incompat & needsRecovery) !== 0) throw new Unclear('its journal must be replayed')
  const strange = (incompat & ~understood) | (ro & ~understoodRo)
  if (strange !== 0) throw new Unclear(`it has unknown features (${incompat.toString(16)}, ${ro.toString(16)})`)
  const state = sb.readUInt16LE(58)
  if ((state & 3) !== 1) throw new Unclear('it was not unmounted cleanly or has errors')
  const logBlock = sb.readUInt32LE(24)
  const logCluster = sb.readUInt32LE(28)
  if (logBlock > 6 || logCluster > 20 || logCluster < logBlock) throw new Unclear('its blocks have no sound size')
  const [blockBytes, clusterBytes] = [1024 << logBlock, 1024 << logCluster]
  const hasClusters = (ro & bigalloc) !== 0
  if (!hasClusters && clusterBytes !== blockBytes) throw new Unclear('it has clusters without the feature')
  const is64 = (incompat & sixtyFourBit) !== 0
  const blocks = sb.readUInt32LE(4) + (is64 ? sb.readUInt32LE(336) * 2 ** 32 : 0)
  if (blocks * blockBytes > volumeBytes)
    throw new Unclear(`it has ${blocks * blockBytes} bytes, its place ${volumeBytes}`)
  const firstBlock = sb.readUInt32LE(20)
  const blocksPerGroup = sb.readUInt32LE(32)
  const clustersPerGroup = sb.readUInt32LE(36)
  if (clustersPerGroup < 1 || clustersPerGroup > blockBytes * 8 || firstBlock > 1 || firstBlock >= blocks) {
    throw new Unclear('its groups have no sound size')
  }
  if (blocksPerGroup * blockBytes !== (hasClusters ? clustersPerGroup * clusterBytes : blocksPerGroup * blockBytes)) {
    throw new Unclear('its groups have no sound size')
  }
  if (!hasClusters && (blocksPerGroup < 1 || blocksPerGroup > blockBytes * 8))
    throw new Unclear('its groups have no sound size')
  const groups = Math.ceil((blocks - firstBlock) / blocksPerGroup)
  if (groups > groupsMax) throw new Unclear(`it has ${groups} groups`)
  const descriptorBytes = is64 ? sb.readUInt16LE(254) : 32
  if (
    descriptorBytes < (is64 ? 64 : 32) ||
    descriptorBytes > blockBytes ||
    (descriptorBytes & (descriptorBytes - 1)) !== 0
  ) {
    throw new Unclear('its group descriptors have no sound size')
  }
  const inodeBytes = sb.readUInt32LE(76) === 0 ? 128 : sb.readUInt16LE(88)
  const inodeTableBlocks = Math.ceil((sb.readUInt32LE(40) * inodeBytes) / blockBytes)
  const backups = (compat & sparseSuper2) === 0 ? undefined : [0, sb.readUInt32LE(588), sb.readUInt32LE(592)]
  const isSparse = (ro & sparseSuper) !== 0
  return {
    blockBytes,
    clusterBytes,
    firstBlock,
    blocks,
    blocksPerGroup,
    inodeTableBlocks,
    descriptorBytes,
    groups,
    firstMetaBg: (incompat & metaBg) === 0 ? undefined : sb.readUInt32LE(260),
    reservedGdtBlocks: sb.readUInt16LE(206),
    hasSuper: (group) =>
      backups ? backups.includes(group) : !isSparse || group < 2 || [3, 5, 7].some((base) => isPower(group, base)),
    hasUninit: (ro & (gdtChecksums | metadataChecksums)) !== 0,
  }
}

function isPower(value: number, base: number): boolean {
  let power = base
  while (power < value) power *= base
  return power === value
}

async function readGroups(volume: Volume, layout: Layout): Promise<Group[]> {
  const { blockBytes, descriptorBytes, firstBlock, blocksPerGroup, firstMetaBg } = layout
  const perBlock = blockBytes / descriptorBytes
  // With blocks of 1 KiB and clusters the first group begins with a block in front of its superblock.
  const front = blockBytes === 1024 && firstBlock === 0 ? 1 : 0
  const groups: Group[] = []
  for (let index = 0; groups.length < layout.groups; index++) {
    const isMeta = firstMetaBg !== undefined && index >= firstMetaBg
    const leader = index * perBlock
    const place = isMeta
      ? firstBlock + leader * blocksPerGroup + (layout.hasSuper(leader) ? 1 : 0) + (leader === 0 ? front : 0)
      : firstBlock + front + 1 + index
    const table = await volume.read(place * blockBytes, blockBytes)
    for (let at = 0; at < blockBytes && groups.length < layout.groups; at += descriptorBytes) {
      groups.push(readGroup(table.subarray(at, at + descriptorBytes)))
    }
  }
  return groups
}

function readGroup(bytes: Buffer): Group {
  const wide = bytes.length >= 64
  const place = (low: number, high: number) => bytes.readUInt32LE(low) + (wide ? bytes.readUInt32LE(high) * 2 ** 32 : 0)
  return {
    bitmap: place(0, 32),
    inodeBitmap: place(4, 36),
    inodeTable: place(8, 40),
    free: bytes.readUInt16LE(12) + (wide ? bytes.readUInt16LE(44) * 2 ** 16 : 0),
    flags: bytes.readUInt16LE(18),
  }
}

/** What a bitmap that was never written would say: the file system's own structures are in use wherever they lie. */
function keepMetadata(volume: Volume, layout: Layout, groups: readonly Group[], uninit: readonly number[]): void {
  const { blockBytes } = layout
  const keep = (block: number, count: number) => volume.keep(block * blockBytes, count * blockBytes)
  for (const { bitmap, inodeBitmap, inodeTable } of groups) {
    keep(bitmap, 1)
    keep(inodeBitmap, 1)
    keep(inodeTable, layout.inodeTableBlocks)
  }
  const tableBlocks = Math.ceil((layout.groups * layout.descriptorBytes) / blockBytes)
  const oldTables = layout.firstMetaBg === undefined ? tableBlocks : Math.min(layout.firstMetaBg, tableBlocks)
  for (const number of uninit) {
    const first = layout.firstBlock + number * layout.blocksPerGroup
    if (layout.hasSuper(number)) keep(first, 2 + oldTables + layout.reservedGdtBlocks)
    // A block of descriptors begins the first, second and last group of its kind.
    if (layout.firstMetaBg !== undefined) keep(first, 2)
  }
}
