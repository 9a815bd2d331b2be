import { readFileSync, truncateSync } from 'node:fs'
import { expect, test } from 'vitest'
import { partitionTableBytes, readPartitionTable } from './partition-table.ts'
import { MiB, putGpt, run, testFolder, writeTo } from './testing.ts'

/** The start of a disk of 16 MiB that sgdisk partitioned with these arguments. */
function partitioned(...args: string[]): Buffer {
  const path = writeTo(testFolder(), 'disk', Buffer.alloc(16 * MiB))
  run('sgdisk', [...args, path])
  return readFileSync(path).subarray(0, partitionTableBytes)
}

/** The start of a volume of 16 MiB made by `command`, which takes a path. */
function formatted(command: string): Buffer {
  const path = writeTo(testFolder(), 'volume', Buffer.alloc(0))
  truncateSync(path, 64 * MiB)
  run(command, [path])
  return readFileSync(path).subarray(0, partitionTableBytes)
}

test('a GPT by sgdisk tells the size of the disk', () => {
  expect(readPartitionTable(partitioned('--new=1:0:+4M', '--new=2:0:0'))).toEqual({
    kind: 'gpt',
    sectorBytes: 512,
    endBytes: 16 * MiB,
  })
})

test('an MBR by sgdisk tells where its last partition ends, whatever their order', () => {
  const table = partitioned('--new=1:16384:24575', '--new=2:2048:6143', '--gpttombr=1:2')
  expect(readPartitionTable(table)).toEqual({ kind: 'mbr', sectorBytes: 512, endBytes: 24576 * 512 })
})

test('a GPT of 4096-byte sectors is found at its own place', () => {
  const disk = Buffer.alloc(MiB)
  putGpt(disk, 4096)
  expect(readPartitionTable(disk)).toEqual({ kind: 'gpt', sectorBytes: 4096, endBytes: MiB })
})

test('a GPT whose checksum is wrong is not believed', () => {
  const disk = Buffer.alloc(MiB)
  putGpt(disk, 512)
  disk.writeUInt8(0xff, 512 + 33)
  expect(readPartitionTable(disk)).toBeUndefined()
})

test.each(['mkfs.vfat', 'mkfs.ext4'])('a bare volume by %s has no table', (command) => {
  expect(readPartitionTable(formatted(command))).toBeUndefined()
})

test('zeros, text and the shortest disks have no table', () => {
  for (const bytes of [0, 1, 511, 512, 513, 1024, 8192]) {
    expect(readPartitionTable(Buffer.alloc(bytes))).toBeUndefined()
    expect(readPartitionTable(Buffer.alloc(bytes, 'EFI PART'))).toBeUndefined()
    expect(readPartitionTable(Buffer.alloc(bytes, 0x55))).toBeUndefined()
  }
})
