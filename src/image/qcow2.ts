// A qcow2 image as a stream of disk bytes. Its header and tables are read here first, in memory-safe code: qemu is never
// shown an image that names another file, is encrypted or reaches beyond its own end. Then qemu-img checks it and
// qemu-nbd serves it to nbdcopy, all under limits. Format: qemu docs/interop/qcow2.txt.
import { type FileHandle, open } from 'node:fs/promises'
import { connect } from 'node:net'
import { until } from '../lib/until.ts'
import { Failure } from '../model/failure.ts'
import { Child, type Limits, outputOf } from './child.ts'
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

/** qemu maps caches of up to 32 MiB, stacks and arenas for each thread; measured below 1 GiB. */
const limits: Limits = { memoryBytes: 2 * 1024 ** 3, cpuSeconds: 6 * 3600 }
/** Reading one request takes qemu a few clusters: two minutes without a byte means that it hangs. */
const stallMs = 120_000
const startMs = 30_000
/** The check reads every table once and answers at its end. */
const checkMs = 600_000
/** As in qemu: 32 MiB of L1 table. */
const l1EntriesMax = 4 * 1024 * 1024

/**
 * Gives the disk bytes of the qcow2 image in the file `path`. `onSize` hears the size of the disk first. `folder` takes
 * the socket. Throws Failure `image-broken` or `image-too-large`.
 */
export async function* readQcow2(
  path: string,
  options: { folder: string; signal: AbortSignal; onSize: (bytes: number) => void },
): AsyncGenerator<Buffer, void, void> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const header = parseQcow2Header(await readAt(file, 0, 104), size)
    await checkClusters(file, header, size, options.signal)
    options.onSize(header.sizeBytes)
  } finally {
    await file.close()
  }
  // By json: and not by name, because a name may look like one of qemu's protocols.
  const target = `json:${JSON.stringify({ driver: 'qcow2', backing: null, file: { driver: 'file', filename: path } })}`
  await checkByQemu(target, options.signal)
  yield* serveByQemu(target, options)
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

async function checkByQemu(target: string, signal: AbortSignal): Promise<void> {
  const command = ['qemu-img', 'check', '--output=json', target] as const
  try {
    // Status 3 means clusters that nothing refers to: room is wasted, no byte is wrong. The report itself says no more.
    await drain(outputOf(command, { limits, stallMs: checkMs, fine: [0, 3], signal }))
  } catch (cause) {
    if (cause instanceof Failure || signal.aborted) throw cause
    throw broken('does not pass the check of qemu; see what it finds, by: qemu-img check IMAGE', cause)
  }
}

async function drain(output: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of output);
}

async function* serveByQemu(
  target: string,
  options: { folder: string; signal: AbortSignal },
): AsyncGenerator<Buffer, void, void> {
  const folder = await open(options.folder)
  let server: Child | undefined
  try {
    // A socket's path has at most 107 bytes and the library may lie deeper: through our descriptor it is always short.
    const socket = `/proc/${process.pid}/fd/${folder.fd}/nbd`
    server = new Child(['qemu-nbd', '--read-only', '--persistent', '--shared=2', `--socket=${socket}`, target], limits)
    await listening(server, socket, options.signal)
    const copy = ['--connections=1', '--request-size=1048576', `nbd+unix:///?socket=${socket}`, '-'] as const
    yield* outputOf(['nbdcopy', ...copy], { limits, stallMs, signal: options.signal })
  } catch (cause) {
    if (cause instanceof Failure || options.signal.aborted) throw cause
    throw broken('cannot be read to its end', cause)
  } finally {
    await server?.close()
    await folder.close()
  }
}

async function listening(server: Child, socket: string, signal: AbortSignal): Promise<void> {
  let ended = false
  void server.ended.then(() => (ended = true))
  await until('qemu-nbd to listen', async () => ended || (await canConnect(socket)), {
    timeoutMs: startMs,
    everyMs: 20,
    signal,
  })
  if (ended) await server.success([])
}

function canConnect(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket)
    connection.once('connect', () => {
      connection.destroy()
      resolve(true)
    })
    connection.once('error', () => resolve(false))
  })
}

/** Reads `length` bytes at `offset`, fewer at the end of the file. */
async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset)
  return buffer.subarray(0, bytesRead)
}

function broken(what: string, cause?: unknown): Failure {
  return new Failure('image-broken', `the qcow2 image ${what}`, { cause })
}
