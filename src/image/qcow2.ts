// What a qcow2 image must be before qemu is shown it, read in memory-safe code: it names no other file, is not encrypted and
// does not reach beyond its own end. Format: qemu docs/interop/qcow2.txt.
import type { FileHandle } from 'node:fs/promises'
import { Failure } from '../model/failure.ts'
import { diskBytesMax } from './manifest.ts'

export type Qcow2Header = {
  readonly sizeBytes: number
  readonly clusterBits: number
  readonly l1Offset: number
  readonly l1Entries: number
  /** Bytes of one entry of an L2 table: 16 where clusters have sub-clusters. */
  readonly l2EntryBytes: 8 | 16
}

export const qcow2Magic = Buffer.from('QFI\xfb', 'latin1')

/** As in qemu: 32 MiB of L1 table. */
const l1EntriesMax = 4 * 1024 * 1024

/** Throws Failure `image-broken` or `image-too-large` for a qcow2 image that qemu must not be shown. */
export async function checkQcow2(file: FileHandle, fileBytes: number, signal: AbortSignal): Promise<void> {
  const header = parseQcow2Header(await readAt(file, 0, 104), fileBytes)
  await checkClusters(file, header, fileBytes, signal)
}

/** Reads and judges the first 104 bytes of a qcow2 file of `fileBytes` bytes. Throws Failure. */
export function parseQcow2Header(head: Buffer, fileBytes: number): Qcow2Header {
  if (head.length < 72) throw broken(`is cut off in its header, after ${fileBytes} bytes`)
  const version = head.readUInt32BE(4)
  if (version !== 2 && version !== 3) throw broken(`has version ${version}; versions 2 and 3 can be read`)
  if (version === 3 && head.length < 104) throw broken(`is cut off in its header, after ${fileBytes} bytes`)
  if (head.readBigUInt64BE(8) !== 0n) {
    throw broken('has a backing file; publish it flattened, by: qemu-img convert -O qcow2 IMAGE FLAT.qcow2')
  }
  if (head.readUInt32BE(32) !== 0) throw broken('is encrypted; publish it decrypted')
  const features = version === 3 ? head.readBigUInt64BE(72) : 0n
  if ((features & 2n) !== 0n) throw broken('is marked corrupt by qemu; mend it, by: qemu-img check -r all IMAGE')
  if ((features & 4n) !== 0n) {
    throw broken(
      'keeps its data in an external file; publish it whole, by: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2',
    )
  }
  if (features >> 5n !== 0n) throw broken(`has the unknown incompatible features 0x${features.toString(16)}`)
  const clusterBits = head.readUInt32BE(20)
  if (clusterBits < 9 || clusterBits > 21) throw broken(`has clusters of 2^${clusterBits} bytes, not 2^9 to 2^21`)
  const size = head.readBigUInt64BE(24)
  if (size > BigInt(diskBytesMax)) {
    const message = `the qcow2 image holds a disk of ${size} bytes; ${diskBytesMax} can be published`
    throw new Failure('image-too-large', message)
  }
  const l2EntryBytes = (features & 16n) === 0n ? 8 : 16
  const sizeBytes = Number(size)
  const l1Entries = head.readUInt32BE(36)
  if (l1Entries > l1EntriesMax) throw broken(`has an L1 table of ${l1Entries} entries; ${l1EntriesMax} can be read`)
  const covered = 2 ** clusterBits * (2 ** clusterBits / l2EntryBytes)
  if (l1Entries < Math.ceil(sizeBytes / covered)) throw broken('has an L1 table too short for its disk')
  const l1Offset = head.readBigUInt64BE(40)
  if (l1Offset + BigInt(l1Entries * 8) > BigInt(fileBytes)) {
    throw broken(
      `is truncated: its L1 table ends at byte ${l1Offset + BigInt(l1Entries * 8)}, the file after ${fileBytes}`,
    )
  }
  return { sizeBytes, clusterBits, l1Offset: Number(l1Offset), l1Entries, l2EntryBytes }
}

/**
 * Walks the tables and throws Failure `image-broken` when one of them or a cluster reaches beyond the end of the file.
 * qemu itself reads zeros there, which would publish a truncated image as if it were whole.
 */
async function checkClusters(
  file: FileHandle,
  header: Qcow2Header,
  fileBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const clusterBytes = 2 ** header.clusterBits
  const inside = (what: string, offset: number, length: number) => {
    if (offset + length <= fileBytes) return
    throw broken(`is truncated: ${what} ends at byte ${offset + length}, the file after ${fileBytes}`)
  }
  const covered = Math.ceil(header.sizeBytes / (clusterBytes * (clusterBytes / header.l2EntryBytes)))
  // Only what the disk needs: entries behind it serve no byte.
  const l1 = await readAt(file, header.l1Offset, covered * 8)
  for (let at = 0; at < l1.length; at += 8) {
    signal.throwIfAborted()
    const l2Offset = offsetOf(l1, at)
    if (l2Offset === 0) continue
    inside('an L2 table', l2Offset, clusterBytes)
    checkL2(await readAt(file, l2Offset, clusterBytes), header, inside)
  }
}

function checkL2(
  l2: Buffer,
  header: Qcow2Header,
  inside: (what: string, offset: number, length: number) => void,
): void {
  // A compressed cluster: the low bits are where it starts, those above count the further 512-byte sectors it takes.
  const offsetBits = BigInt(62 - (header.clusterBits - 8))
  for (let at = 0; at < l2.length; at += header.l2EntryBytes) {
    if ((l2.readUInt8(at) & 0x40) === 0) {
      const offset = offsetOf(l2, at)
      if (offset !== 0) inside('a cluster', offset, usedBytes(l2, at, header))
      continue
    }
    const entry = l2.readBigUInt64BE(at) & ((1n << 62n) - 1n)
    const offset = Number(entry & ((1n << offsetBits) - 1n))
    const sectors = Number(entry >> offsetBits)
    // The last sector may be cut short: whether the cluster inflates is for qemu to see.
    inside('a compressed cluster', Math.floor(offset / 512) * 512 + sectors * 512, 1)
  }
}

/** How much of the cluster of an L2 entry holds disk bytes, from its start: the rest may lie behind the end of the file. */
function usedBytes(l2: Buffer, at: number, header: Qcow2Header): number {
  const clusterBytes = 2 ** header.clusterBits
  if (header.l2EntryBytes === 8) {
    // Bit 0 says that the cluster reads as zeros, whatever room it has.
    return (l2.readUInt8(at + 7) & 1) === 1 ? 0 : clusterBytes
  }
  // The low half of the second word has a bit for each of 32 sub-clusters that is allocated, the first the lowest.
  return (clusterBytes / 32) * (32 - Math.clz32(l2.readUInt32BE(at + 12)))
}

/** Bits 9 to 55 of a table entry: where the cluster is, in bytes; 0 for none. Below 2^53 or, broken, far beyond any file. */
function offsetOf(table: Buffer, at: number): number {
  return (table.readUInt32BE(at) & 0x00ffffff) * 2 ** 32 + ((table.readUInt32BE(at + 4) & 0xfffffe00) >>> 0)
}

/** Reads `length` bytes at `offset`, fewer at the end of the file. */
async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset)
  return buffer.subarray(0, bytesRead)
}

function broken(what: string, cause?: unknown): Failure {
  return new Failure('image-broken', `the qcow2 image ${what}`, { cause })
}
