// What images of other virtual machines must be before qemu is shown them, read in memory-safe code: they name no other file
// and do not reach beyond their own end. Formats: VMware Virtual Disk Format 5.0, Microsoft VHD and [MS-VHDX], VDICore.h.
import type { FileHandle } from 'node:fs/promises'
import { Failure } from '../model/failure.ts'
import { diskBytesMax } from './manifest.ts'

/** Looks at an image of `fileBytes` bytes. Throws Failure `image-broken` or `image-too-large`. */
export type HeaderCheck = (file: FileHandle, fileBytes: number) => Promise<void>

const descriptorBytesMax = 1024 * 1024
const tableBytesMax = 64 * 1024 * 1024

/** A sparse VMDK of one file. Its descriptor could name others; one of capacity 0 would be nothing but a descriptor to qemu. */
export const checkVmdk: HeaderCheck = async (file, fileBytes) => {
  const header = await read('VMDK', file, fileBytes, 0, 512)
  const sectors = header.readBigUInt64LE(12)
  if (sectors === 0n) throw broken('VMDK', 'holds no disk, only a description of other files')
  checkSize('VMDK', sectors * 512n)
  const [at, length] = [header.readBigUInt64LE(28) * 512n, header.readBigUInt64LE(36) * 512n]
  if (at === 0n) return
  if (length > BigInt(descriptorBytesMax)) throw broken('VMDK', `has a description of ${length} bytes`)
  const text = (await read('VMDK', file, fileBytes, Number(at), Number(length)))
    .toString('latin1')
    .replace(/\0[\s\S]*$/, '')
  const parent = /^\s*parentCID\s*=\s*(\w+)/im.exec(text)?.[1]
  if ((parent !== undefined && !/^f{8}$/i.test(parent)) || /parentFileNameHint/i.test(text)) {
    throw broken('VMDK', 'has a backing file; publish it flattened, by: qemu-img convert -O qcow2 IMAGE FLAT.qcow2')
  }
  const extents = [...text.matchAll(/^\s*(?:RW|RDONLY|NOACCESS)\s+\S+\s+(\S+)/gim)].map(([, type]) => type)
  if (extents.length > 1 || extents.some((type) => type?.toUpperCase() !== 'SPARSE')) {
    throw broken('VMDK', 'lies in several files; publish it in one, by: qemu-img convert -O qcow2 IMAGE ONE.qcow2')
  }
}

/** A dynamic VHD: its blocks lie where the block allocation table says. */
export const checkVhd: HeaderCheck = async (file, fileBytes) => {
  const footer = await read('VHD', file, fileBytes, 0, 512)
  checkVhdFooter(footer)
  const type = footer.readUInt32BE(60)
  if (type === 4)
    throw broken('VHD', 'has a backing file; publish it flattened, by: qemu-img convert -O qcow2 IMAGE FLAT.qcow2')
  if (type !== 3) throw broken('VHD', `is of the unknown type ${type}`)
  const header = await read('VHD', file, fileBytes, Number(footer.readBigUInt64BE(16)), 1024)
  if (header.toString('latin1', 0, 8) !== 'cxsparse') throw broken('VHD', 'has no header where it should be')
  const [entries, block] = [header.readUInt32BE(28), header.readUInt32BE(32)]
  if (block < 512 || block > 256 * 1024 * 1024 || entries * block < Number(footer.readBigUInt64BE(48))) {
    throw broken('VHD', 'has a table too short for its disk')
  }
  const table = await read('VHD', file, fileBytes, Number(header.readBigUInt64BE(16)), entries * 4)
  // Before each block lies a bitmap of its sectors.
  const whole = block + Math.ceil(block / 512 / 8 / 512) * 512
  for (let at = 0; at < table.length; at += 4) {
    const sector = table.readUInt32BE(at)
    if (sector !== 0xffffffff) inside('VHD', sector * 512, whole, fileBytes)
  }
}

/** The size of the disk of a VHD that is nothing but the disk and a footer; undefined when `footer` is none of a whole file. */
export function fixedVhdBytes(footer: Buffer, fileBytes: number): number | undefined {
  if (footer.length !== 512 || footer.toString('latin1', 0, 8) !== 'conectix' || footer.readUInt32BE(60) !== 2)
    return undefined
  const sizeBytes = Number(footer.readBigUInt64BE(48))
  return sizeBytes === fileBytes - 512 ? sizeBytes : undefined
}

function checkVhdFooter(footer: Buffer): void {
  const sum = footer.reduce((sum, byte, at) => sum + (at >= 64 && at < 68 ? 0 : byte), 0)
  if (~sum >>> 0 !== footer.readUInt32BE(64)) throw broken('VHD', 'has a header whose checksum is wrong')
  checkSize('VHD', footer.readBigUInt64BE(48))
}

const batRegion = Buffer.from('6677c22d23f600429d64115e9bfd4a08', 'hex')
const metadataRegion = Buffer.from('06a27c8b90479a4bb8fe575f050f886e', 'hex')
const fileParameters = Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex')

export const checkVhdx: HeaderCheck = async (file, fileBytes) => {
  const regions = await read('VHDX', file, fileBytes, 192 * 1024, 64 * 1024)
  if (regions.toString('latin1', 0, 4) !== 'regi') throw broken('VHDX', 'has no region table')
  const bat = entryWith(regions, 16, Math.min(regions.readUInt32LE(8), 2047), batRegion)
  const metadata = entryWith(regions, 16, Math.min(regions.readUInt32LE(8), 2047), metadataRegion)
  if (bat === undefined || metadata === undefined) throw broken('VHDX', 'lacks a region')
  const metadataAt = Number(metadata.readBigUInt64LE(16))
  const items = await read('VHDX', file, fileBytes, metadataAt, 64 * 1024)
  const item = entryWith(items, 32, Math.min(items.readUInt16LE(10), 2047), fileParameters)
  if (item === undefined) throw broken('VHDX', 'lacks its parameters')
  const parameters = await read('VHDX', file, fileBytes, metadataAt + item.readUInt32LE(16), 8)
  if ((parameters.readUInt32LE(4) & 2) !== 0) {
    throw broken('VHDX', 'has a backing file; publish it flattened, by: qemu-img convert -O qcow2 IMAGE FLAT.qcow2')
  }
  const block = parameters.readUInt32LE(0)
  const table = await read('VHDX', file, fileBytes, Number(bat.readBigUInt64LE(16)), bat.readUInt32LE(24))
  for (let at = 0; at + 8 <= table.length; at += 8) {
    const entry = table.readBigUInt64LE(at)
    if ((entry & 7n) >= 6n) inside('VHDX', Number((entry >> 20n) << 20n), block, fileBytes)
  }
}

/** The entry of 32 bytes of a table that begins with this GUID. */
function entryWith(table: Buffer, from: number, count: number, guid: Buffer): Buffer | undefined {
  for (let at = from; at + 32 <= table.length && at < from + count * 32; at += 32) {
    if (table.subarray(at, at + 16).equals(guid)) return table.subarray(at, at + 32)
  }
  return undefined
}

export const checkVdi: HeaderCheck = async (file, fileBytes) => {
  const header = await read('VDI', file, fileBytes, 0, 512)
  checkSize('VDI', header.readBigUInt64LE(0x170))
  if (header.subarray(0x1a8, 0x1c8).some((byte) => byte !== 0)) {
    throw broken('VDI', 'has a backing file; publish it flattened, by: qemu-img convert -O qcow2 IMAGE FLAT.qcow2')
  }
  inside('VDI', header.readUInt32LE(0x158), header.readUInt32LE(0x184) * header.readUInt32LE(0x178), fileBytes)
  const [blocks, allocated] = [header.readUInt32LE(0x180), header.readUInt32LE(0x184)]
  const map = await read('VDI', file, fileBytes, header.readUInt32LE(0x154), blocks * 4)
  for (let at = 0; at < map.length; at += 4) {
    const block = map.readUInt32LE(at)
    if (block < 0xfffffffe && block >= allocated) throw broken('VDI', 'has a map that points behind its blocks')
  }
}

function checkSize(format: string, sizeBytes: bigint): void {
  if (sizeBytes <= BigInt(diskBytesMax)) return
  const message = `the ${format} image holds a disk of ${sizeBytes} bytes; ${diskBytesMax} can be published`
  throw new Failure('image-too-large', message)
}

function inside(format: string, offset: number, length: number, fileBytes: number): void {
  if (offset + length <= fileBytes) return
  throw broken(format, `is truncated: a block ends at byte ${offset + length}, the file after ${fileBytes}`)
}

async function read(
  format: string,
  file: FileHandle,
  fileBytes: number,
  offset: number,
  length: number,
): Promise<Buffer> {
  if (length > tableBytesMax) throw broken(format, `has a table of ${length} bytes; ${tableBytesMax} can be read`)
  inside(format, offset, length, fileBytes)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset)
  if (bytesRead < length) throw broken(format, 'changed while it was read')
  return buffer
}

function broken(format: string, what: string): Failure {
  return new Failure('image-broken', `the ${format} image ${what}`)
}
