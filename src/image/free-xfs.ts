// Free blocks of XFS, from the by-block-number trees of its allocation groups. They are right only when the log has nothing to
// replay, so the log's last record must be that of a clean unmount. Format: XFS Algorithms & Data Structures, 3rd edition,
// "Superblocks", "AG Free Space B+trees", "Journaling Log".
import { type FileSystem, Unclear, u64be, type Volume } from './volume.ts'

/** Incompatible features of version 5 under which these trees say all; needsrepair (0x10) and zoned (0x200) are not. */
const understood = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
/** finobt, rmapbt, reflink, inobtcnt. */
const understoodRo = 0x1 | 0x2 | 0x4 | 0x8
const groupsMax = 64 * 1024
const levelsMax = 9

export const xfs: FileSystem = {
  name: 'xfs',
  isIn: (head) => head.toString('latin1', 0, 4) === 'XFSB',
  markFree,
}

type Layout = {
  readonly blockBytes: number
  readonly sectorBytes: number
  readonly blocks: number
  readonly groupBlocks: number
  readonly groups: number
  readonly isV5: boolean
  readonly log: { readonly offset: number; readonly sizeBytes: number }
}

async function markFree(volume: Volume, head: Buffer): Promise<void> {
  const layout = readLayout(head, volume.sizeBytes)
  await checkLog(volume, layout)
  for (let group = 0; group < layout.groups; group++) await markGroup(volume, layout, group)
}

function readLayout(sb: Buffer, volumeBytes: number): Layout {
  if (sb.length < 512) throw new Unclear('its superblock is cut off')
  const version = sb.readUInt16BE(100) & 0xf
  const isV5 = version === 5
  if (!isV5 && version !== 4) throw new Unclear(`it has version ${version}`)
  if (isV5 && ((sb.readUInt32BE(216) & ~understood) !== 0 || (sb.readUInt32BE(212) & ~understoodRo) !== 0)) {
    throw new Unclear('it has unknown features')
  }
  if (isV5 && sb.readUInt32BE(220) !== 0) throw new Unclear('its log has features that are in use')
  if (sb.readUInt8(126) !== 0) throw new Unclear('it was not made to its end')
  const [blockBytes, sectorBytes] = [sb.readUInt32BE(4), sb.readUInt16BE(102)]
  const isSound = (bytes: number, min: number, max: number) =>
    bytes >= min && bytes <= max && (bytes & (bytes - 1)) === 0
  if (!isSound(blockBytes, 512, 65_536) || !isSound(sectorBytes, 512, 32_768))
    throw new Unclear('its blocks have no sound size')
  const blocks = u64be(sb, 8)
  const [groupBlocks, groups] = [sb.readUInt32BE(84), sb.readUInt32BE(88)]
  if (blocks * blockBytes > volumeBytes)
    throw new Unclear(`it has ${blocks * blockBytes} bytes, its place ${volumeBytes}`)
  if (groups > groupsMax || groupBlocks < 1 || Math.ceil(blocks / groupBlocks) !== groups) {
    throw new Unclear('its groups have no sound size')
  }
  if (u64be(sb, 16) !== 0) throw new Unclear('it has a realtime device')
  const logStart = u64be(sb, 48)
  if (logStart === 0) throw new Unclear('its log is elsewhere')
  const groupBits = sb.readUInt8(124)
  const logGroup = Math.floor(logStart / 2 ** groupBits)
  const offset = (logGroup * groupBlocks + (logStart - logGroup * 2 ** groupBits)) * blockBytes
  return {
    blockBytes,
    sectorBytes,
    blocks,
    groupBlocks,
    groups,
    isV5,
    log: { offset, sizeBytes: sb.readUInt32BE(96) * blockBytes },
  }
}

const logRecordMagic = 0xfeedbabe
const logReadBytes = 1024 * 1024

/** Every 512-byte block of the log but a record's header begins with a cycle number: what has the magic there is a header. */
async function checkLog(volume: Volume, { log }: Layout): Promise<void> {
  let newest: { lsn: bigint; offset: number; header: Buffer } | undefined
  for (let at = 0; at < log.sizeBytes; at += logReadBytes) {
    const chunk = await volume.read(log.offset + at, Math.min(logReadBytes, log.sizeBytes - at))
    for (let from = 0; from + 512 <= chunk.length; from += 512) {
      if (chunk.readUInt32BE(from) !== logRecordMagic) continue
      const lsn = chunk.readBigUInt64BE(from + 16)
      if (newest !== undefined && lsn <= newest.lsn) continue
      newest = { lsn, offset: at + from, header: Buffer.from(chunk.subarray(from, from + 512)) }
    }
  }
  if (newest === undefined) throw new Unclear('its log has no record')
  const { header, offset } = newest
  // A record of version 2 with large buffers has a header block for every 32 KiB.
  const headerBlocks =
    (header.readUInt32BE(8) & 2) === 0 ? 1 : Math.max(1, Math.ceil(header.readUInt32BE(320) / 32_768))
  if (headerBlocks > 64) throw new Unclear('its log cannot be read')
  const operation = await volume.read(log.offset + ((offset + headerBlocks * 512) % log.sizeBytes), 512)
  const isUnmount = header.readUInt32BE(40) === 1 && (operation.readUInt8(9) & 0x20) !== 0
  if (!isUnmount) throw new Unclear('its log must be replayed')
}

async function markGroup(volume: Volume, layout: Layout, group: number): Promise<void> {
  const { blockBytes, sectorBytes, groupBlocks } = layout
  const start = group * groupBlocks * blockBytes
  const agf = await volume.read(start + sectorBytes, 64)
  const blocks = Math.min(groupBlocks, layout.blocks - group * groupBlocks)
  if (agf.toString('latin1', 0, 4) !== 'XAGF' || agf.readUInt32BE(8) !== group || agf.readUInt32BE(12) !== blocks) {
    throw new Unclear(`the header of group ${group} is damaged`)
  }
  const damaged = () => new Unclear(`the tree of group ${group} is damaged`)
  const read = async (number: number, level: number) => {
    if (number < 1 || number >= blocks) throw damaged()
    const block = await volume.read(start + number * blockBytes, blockBytes)
    const magic = layout.isV5 ? 'AB3B' : 'ABTB'
    if (block.toString('latin1', 0, 4) !== magic || block.readUInt16BE(4) !== level) throw damaged()
    return block
  }
  const headerBytes = layout.isV5 ? 56 : 16
  const levels = agf.readUInt32BE(28)
  if (levels < 1 || levels > levelsMax) throw damaged()
  let next = agf.readUInt32BE(16)
  for (let level = levels - 1; level > 0; level--) {
    const block = await read(next, level)
    const slots = Math.floor((blockBytes - headerBytes) / 12)
    if (block.readUInt16BE(6) < 1 || block.readUInt16BE(6) > slots) throw damaged()
    next = block.readUInt32BE(headerBytes + slots * 8)
  }
  let [end, free] = [0, 0]
  // Records rise from leaf to leaf, so a chain that came back on itself would be seen; leaves without records do not occur.
  for (; next !== 0xffffffff; ) {
    const leaf = await read(next, 0)
    const records = leaf.readUInt16BE(6)
    if (records > (blockBytes - headerBytes) / 8) throw damaged()
    const right = leaf.readUInt32BE(12)
    if (records === 0 && (right !== 0xffffffff || levels > 1)) throw damaged()
    for (let at = headerBytes; at < headerBytes + records * 8; at += 8) {
      const [first, count] = [leaf.readUInt32BE(at), leaf.readUInt32BE(at + 4)]
      if (first < end || count < 1 || first + count > blocks) throw damaged()
      volume.free(start + first * blockBytes, count * blockBytes)
      end = first + count
      free += count
    }
    next = right
  }
  if (free !== agf.readUInt32BE(52))
    throw new Unclear(`group ${group} has ${free} free blocks and says ${agf.readUInt32BE(52)}`)
}
