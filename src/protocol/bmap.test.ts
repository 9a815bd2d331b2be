import { execFileSync } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { encodeBmap, type MappedRange } from './bmap.ts'

const rangeOf = (disk: Buffer, offset: number, length: number): MappedRange => ({
  offset,
  length,
  sha256: createHash('sha256')
    .update(disk.subarray(offset, offset + length))
    .digest('hex'),
})

// The command truncates a target that is a plain file; what it calls does to an open file what it does to a disk.
const copy = `import sys
from bmaptools import BmapCopy
with open(sys.argv[1], 'rb') as image, open(sys.argv[2], 'rb') as bmap, open(sys.argv[3], 'r+b') as target:
    BmapCopy.BmapCopy(image, target, bmap).copy()
`

/** Lets bmap-tools write `disk` by `bmap` onto a target full of 0xFF, and gives what that then holds. */
function copied(disk: Buffer, bmap: Buffer): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'hades-bmap-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const at = (name: string) => join(folder, name)
  writeFileSync(at('disk.raw'), disk)
  writeFileSync(at('disk.bmap'), bmap)
  writeFileSync(at('target'), Buffer.alloc(disk.length, 0xff))
  const args = ['-c', copy, at('disk.raw'), at('disk.bmap'), at('target')]
  execFileSync('/usr/bin/python3', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  return readFileSync(at('target'))
}

test('bmap-tools writes the mapped ranges, the last in part, and leaves the others alone', () => {
  const disk = randomFillSync(Buffer.alloc(100 * 4096 + 512))
  disk.fill(0, 4096 * 10, 4096 * 20)
  const ranges = [rangeOf(disk, 0, 4096), rangeOf(disk, 4096 * 10, 4096 * 10), rangeOf(disk, 4096 * 99, 4096 + 512)]
  const expected = Buffer.alloc(disk.length, 0xff)
  for (const { offset, length } of ranges) disk.copy(expected, offset, offset, offset + length)
  const bmap = encodeBmap({ sizeBytes: disk.length, ranges })
  expect(copied(disk, bmap).equals(expected)).toBe(true)
  execFileSync('xmllint', ['--noout', '-'], { input: bmap })
  expect(bmap.toString()).toContain('<MappedBlocksCount> 13 </MappedBlocksCount>')
})

test('bmap-tools refuses the map when a byte of it, or of the disk, has changed', () => {
  const disk = randomFillSync(Buffer.alloc(8 * 4096))
  const bmap = encodeBmap({ sizeBytes: disk.length, ranges: [rangeOf(disk, 0, disk.length)] })
  expect(copied(disk, bmap).equals(disk)).toBe(true)
  expect(() => copied(disk, Buffer.from(bmap.toString().replace('0-7', '0-6')))).toThrow('checksum mismatch')
  disk[5] = (disk[5] ?? 0) ^ 1
  expect(() => copied(disk, bmap)).toThrow('checksum mismatch')
})

test.each([
  [100, 4096],
  [0, 100],
  [0, 0],
  [8192, 8192],
  [-4096, 4096],
])('%i, %i are no whole blocks of a disk of 12288 bytes', (offset, length) => {
  const range = { offset, length, sha256: '0'.repeat(64) }
  expect(() => encodeBmap({ sizeBytes: 12288, ranges: [range] })).toThrow('a block map cannot have')
})

test('ranges that overlap are refused', () => {
  const range = { offset: 0, length: 4096, sha256: '0'.repeat(64) }
  expect(() => encodeBmap({ sizeBytes: 12288, ranges: [range, range] })).toThrow('a block map cannot have')
})
