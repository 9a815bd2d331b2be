// What the tests of this folder share: a disk with a partition table, real tools to pack it, and a look at what an
// import left behind.
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes, randomFillSync } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { onTestFinished } from 'vitest'

export const MiB = 1024 * 1024

/** The programs that pack what can be unpacked, with arguments that make them quick. */
export const pack = { gzip: ['-1c'], xz: ['-0c'], zstd: ['-1c'], bzip2: ['-1c'] } as const

/** A folder of the test's own, removed when it ends. */
export function testFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'hades-image-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A GPT header at LBA 1 whose backup lies in the last sector of `disk`. No entries: nobody reads them here. */
export function putGpt(disk: Buffer, sectorBytes: 512 | 4096): void {
  const header = Buffer.alloc(92)
  header.write('EFI PART', 'latin1')
  header.writeUInt32LE(0x10000, 8)
  header.writeUInt32LE(header.length, 12)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(BigInt(disk.length / sectorBytes - 1), 32)
  header.writeBigUInt64LE(34n, 40)
  header.writeBigUInt64LE(BigInt(disk.length / sectorBytes - 34), 48)
  header.writeUInt32LE(crc32(header), 16)
  header.copy(disk, sectorBytes)
}

/**
 * A disk of `sizeBytes`, at least 5 MiB: GPT, 3 MiB from 1 MiB on that do not compress, zeros, and text in the last MiB,
 * so that no cut goes unnoticed.
 */
export function makeDisk(sizeBytes = 13 * MiB + 512): Buffer {
  const disk = Buffer.alloc(sizeBytes)
  putGpt(disk, 512)
  randomFillSync(disk, MiB, 3 * MiB)
  disk.fill('All hope abandon ye who enter here. ', sizeBytes - MiB)
  return disk
}

export function writeTo(folder: string, name: string, bytes: Buffer): string {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return path
}

/**
 * Makes the file an ext4 of 24 MiB, random where nothing is. `used` is a place of a file, `gap` one of a few free blocks between
 * two files, too few to be worth a read of their own.
 */
export function makeGappedVolume(path: string): { used: number; gap: number } {
  const root = testFolder()
  for (const name of ['a', 'b', 'c']) writeTo(root, name, randomBytes(32 * 1024))
  writeFileSync(path, randomBytes(24 * MiB))
  run('mkfs.ext4', ['-q', '-F', '-b', '4096', '-d', root, path])
  const placeOf = (name: string) =>
    Number(
      run('debugfs', ['-R', `blocks /${name}`, path])
        .toString()
        .trim()
        .split(/\s+/)[0],
    ) * 4096
  const places = { used: placeOf('a'), gap: placeOf('b') }
  run('debugfs', ['-w', '-R', 'rm /b', path])
  return places
}

/** Runs a tool and gives its standard output; its standard error becomes the message when it fails. */
export function run(command: string, args: readonly string[], input?: Buffer): Buffer {
  return execFileSync(command, args, { input, maxBuffer: 256 * MiB, stdio: ['pipe', 'pipe', 'pipe'] })
}

/** Makes a qcow2 image of the raw file `raw` with qemu-img. */
export function makeQcow2(raw: string, path: string, ...options: string[]): string {
  run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, path])
  return path
}

export async function* stream(bytes: Buffer, chunkBytes = 60_000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes)
}

/** Every name in the library: its images, and what lies in `incoming`. */
export function leftIn(library: string): string[] {
  return readdirSync(library, { recursive: true, encoding: 'utf8' }).filter((name) => name !== 'incoming')
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** The rows of a zstd seek table, read as its specification says and by nothing of ours. */
export function readSeekTable(path: string): { at: number; stored: number; raw: number }[] {
  const file = readFileSync(path)
  const footer = file.subarray(-9)
  if (footer.readUInt32LE(5) !== 0x8f92eab1) throw new Error('no seekable magic at the end')
  if (footer.readUInt8(4) !== 0) throw new Error('a descriptor that promises checksums or uses reserved bits')
  const count = footer.readUInt32LE(0)
  const start = file.length - 9 - count * 8 - 8
  if (file.readUInt32LE(start) !== 0x184d2a5e) throw new Error('no skippable frame')
  if (file.readUInt32LE(start + 4) !== count * 8 + 9) throw new Error('a skippable frame of another size')
  const rows: { at: number; stored: number; raw: number }[] = []
  let at = 0
  for (let row = 0; row < count; row++) {
    const stored = file.readUInt32LE(start + 8 + row * 8)
    rows.push({ at, stored, raw: file.readUInt32LE(start + 12 + row * 8) })
    at += stored
  }
  if (at !== start) throw new Error(`frames end at ${at}, the seek table starts at ${start}`)
  return rows
}
