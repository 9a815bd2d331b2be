// What tests of file systems share: real ones, made by their own tools, filled with files, part of them deleted again so that
// free blocks hold stale bytes; and a disk of rubbish onto which an image is brought as an agent does it.
import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Manifest } from '../model/image.ts'
import { inflateFrame, rawBytesOf, writtenRanges } from './frames.ts'
import { MiB } from './testing.ts'

/** How a kind of file system is made, filled and looked at. */
export type Maker = {
  readonly name: string
  /** As it is reported. */
  readonly fileSystem: string
  readonly sizeBytes: number
  readonly make: readonly string[]
  /** A driver of the kernel, or a tool that copies files in and out without mounting. */
  readonly by: 'mount' | 'mtools' | 'ntfs-3g'
  readonly check: readonly string[]
}

const ext = (name: string, sizeBytes: number, ...options: string[]): Maker => ({
  name,
  fileSystem: 'ext4',
  sizeBytes,
  make: ['mkfs.ext4', '-q', '-F', ...options],
  by: 'mount',
  check: ['e2fsck', '-fn'],
})

export const makers: readonly Maker[] = [
  ext('ext4', 300 * MiB),
  ext('ext4 with blocks of 1 KiB', 120 * MiB, '-b', '1024'),
  ext('ext4 with meta_bg', 300 * MiB, '-O', 'meta_bg,^resize_inode'),
  ext('ext4 with bigalloc', 300 * MiB, '-O', 'bigalloc', '-C', '65536'),
  ext('ext4 without checksums and 64bit', 300 * MiB, '-O', '^metadata_csum,^64bit,uninit_bg'),
  ext('ext4 with sparse_super2', 300 * MiB, '-O', 'sparse_super2,^resize_inode'),
  { ...ext('ext3', 160 * MiB), make: ['mkfs.ext3', '-q', '-F'] },
  { ...ext('ext2', 160 * MiB), make: ['mkfs.ext2', '-q', '-F'] },
  {
    name: 'xfs',
    fileSystem: 'xfs',
    sizeBytes: 400 * MiB,
    make: ['mkfs.xfs', '-q', '-f', '-m', 'bigtime=1'],
    by: 'mount',
    check: ['xfs_repair', '-n', '-f'],
  },
  {
    name: 'btrfs',
    fileSystem: 'btrfs',
    sizeBytes: 400 * MiB,
    make: ['mkfs.btrfs', '-q', '-f'],
    by: 'mount',
    check: ['btrfs', 'check', '--check-data-csum'],
  },
  {
    name: 'btrfs mixed',
    fileSystem: 'btrfs',
    sizeBytes: 200 * MiB,
    make: ['mkfs.btrfs', '-q', '-f', '--mixed', '-m', 'single', '-d', 'single'],
    by: 'mount',
    check: ['btrfs', 'check', '--check-data-csum'],
  },
  {
    name: 'ntfs',
    fileSystem: 'ntfs',
    sizeBytes: 200 * MiB,
    make: ['mkntfs', '-Q', '-F', '-q', '-p', '0', '-H', '0', '-S', '0'],
    by: 'ntfs-3g',
    check: ['ntfsfix', '-n'],
  },
  ...(['12', '16', '32'] as const).map(
    (bits): Maker => ({
      name: `fat${bits}`,
      fileSystem: 'fat',
      sizeBytes: { 12: 15, 16: 120, 32: 300 }[bits] * MiB,
      make: ['mkfs.vfat', '-F', bits],
      by: 'mtools',
      check: ['fsck.vfat', '-n'],
    }),
  ),
]

function quiet(command: readonly string[], options: { input?: Buffer; cwd?: string } = {}): Buffer {
  const [program = '', ...args] = command
  return execFileSync(program, args, { stdio: ['pipe', 'pipe', 'pipe'], maxBuffer: 64 * MiB, ...options })
}

/** Makes the file system in the new file `path`, fills it and empties a part again. */
export function makeVolume(maker: Maker, path: string): void {
  const file = openSync(path, 'w')
  ftruncateSync(file, maker.sizeBytes)
  closeSync(file)
  quiet([...maker.make, path])
  const content = (number: number) => {
    // Half of it compresses; no two files are alike.
    const bytes = Buffer.alloc(
      Math.floor((maker.sizeBytes / 40) * (0.3 + (number % 7) / 5)),
      `file ${number} of ${maker.name}\n`,
    )
    let seed = number + 1
    for (let at = 0; at + 4 <= bytes.length / 2; at += 4) {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      bytes.writeUInt32LE(seed, at)
    }
    return bytes
  }
  const numbers = Array.from({ length: 20 }, (_, index) => index)
  const isDeleted = (number: number) => number % 3 === 1
  if (maker.by === 'mount') {
    mounted(path, (folder) => {
      for (const number of numbers) {
        writeWhole(join(folder, `file-${number}`), content(number))
      }
      quiet(['mkdir', '-p', join(folder, 'a/b/c')])
      for (let number = 0; number < 200; number++)
        writeWhole(join(folder, `a/b/c/small-${number}`), Buffer.from(`${number}`))
      quiet(['sync', '-f', folder])
      for (const number of numbers.filter(isDeleted)) rmSync(join(folder, `file-${number}`))
    })
    return
  }
  const folder = mkdtempSync(join(tmpdir(), 'hades-files-'))
  try {
    for (const number of numbers) writeWhole(join(folder, `file-${number}`), content(number))
    if (maker.by === 'mtools') {
      for (const number of numbers) quiet(['mcopy', '-i', path, join(folder, `file-${number}`), `::file-${number}`])
      for (const number of numbers.filter(isDeleted)) quiet(['mdel', '-i', path, `::file-${number}`])
    } else {
      for (const number of numbers.filter((number) => !isDeleted(number))) {
        quiet(['ntfscp', '-q', path, join(folder, `file-${number}`), `file-${number}`])
      }
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function writeWhole(path: string, bytes: Buffer): void {
  const file = openSync(path, 'w')
  writeSync(file, bytes)
  closeSync(file)
}

/** Mounts a copy of nothing: the file itself, by a loop device. */
function mounted<T>(path: string, work: (folder: string) => T, ...options: string[]): T {
  const folder = mkdtempSync(join(tmpdir(), 'hades-mount-'))
  quiet(['mount', '-o', ['loop', ...options].join(','), path, folder])
  try {
    return work(folder)
  } finally {
    quiet(['umount', folder])
    rmSync(folder, { recursive: true })
  }
}

/** The names and checksums of all files of a volume. */
export function checksumsOf(maker: Maker, path: string): string {
  if (maker.by === 'mount') {
    return mounted(path, (folder) => sums(folder), 'ro')
  }
  const folder = mkdtempSync(join(tmpdir(), 'hades-files-'))
  try {
    const names = Array.from({ length: 20 }, (_, number) => `file-${number}`).filter((_, number) => number % 3 !== 1)
    for (const name of names) {
      if (maker.by === 'mtools') quiet(['mcopy', '-n', '-i', path, `::${name}`, join(folder, name)])
      else writeWhole(join(folder, name), quiet(['ntfscat', path, name]))
    }
    return sums(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function sums(folder: string): string {
  return quiet(['sh', '-c', 'find . -type f -print0 | sort -z | xargs -0 sha256sum'], { cwd: folder }).toString()
}

/** Runs the file system's own check, which must find nothing. */
export function checkVolume(maker: Maker, path: string): string {
  const [program = '', ...args] = maker.check
  return quiet([program, ...args, path]).toString()
}

/** Brings an image onto a disk full of 0xAA: writes and zeroes what the manifest says, and nothing else. */
export async function bringOnto(path: string, imageZst: string, manifest: Manifest): Promise<void> {
  const stored = readFileSync(imageZst)
  const file = openSync(path, 'w')
  const rubbish = Buffer.alloc(4 * MiB, 0xaa)
  for (let at = 0; at < manifest.sizeBytes; at += rubbish.length)
    writeSync(file, rubbish, 0, Math.min(rubbish.length, manifest.sizeBytes - at), at)
  for (const [number, frame] of manifest.frames.entries()) {
    if (frame.class === 'free') continue
    const place = number * manifest.frameSizeBytes
    const raw =
      frame.class === 'zero'
        ? Buffer.alloc(rawBytesOf(manifest, number))
        : await inflateFrame(manifest, number, stored.subarray(frame.offset, frame.offset + frame.length))
    for (const { offset, length } of writtenRanges(manifest, number))
      writeSync(file, raw, offset, length, place + offset)
  }
  closeSync(file)
}
