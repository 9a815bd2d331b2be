import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDisk } from './disk.ts'
import type { SeenDisk } from './inventory.ts'
import { openSpillDisk, unusedEnd } from './spill-disk.ts'
import { attachLoop, ownFolder } from './test-image.ts'

const mebibyte = 1024 * 1024

let folder: string
let closers: (() => Promise<void>)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

test.each([
  { what: 'a disk as large as the image', image: 100 * mebibyte, disk: 100 * mebibyte, expected: undefined },
  { what: 'little behind the image', image: 100 * mebibyte, disk: 165 * mebibyte, expected: undefined },
  {
    what: 'just enough behind the image',
    image: 100 * mebibyte,
    disk: 166 * mebibyte,
    expected: { offset: 101 * mebibyte, length: 64 * mebibyte },
  },
  {
    what: 'odd sizes',
    image: 100 * mebibyte + 1,
    disk: 1000 * mebibyte - 512,
    expected: { offset: 102 * mebibyte, length: 896 * mebibyte },
  },
])('with $what there is the right room for pieces', ({ image, disk, expected }) => {
  expect(unusedEnd(image, disk)).toEqual(expected)
})

test.each([512, 4096] as const)(
  'pieces come back from the end of a claimed disk of %i byte sectors, and the rest of it stays as it was',
  async (sectorBytes) => {
    const backing = join(folder, 'disk.raw')
    const sizeBytes = 80 * mebibyte
    const loop = await attachLoop(backing, sizeBytes, sectorBytes)
    closers.push(loop.detach)
    const claimed = await openDisk(loop.device, sectorBytes)
    const seen: SeenDisk = { path: loop.device, sizeBytes, sectorBytes, rotational: false }
    const range = unusedEnd(10 * mebibyte, sizeBytes)
    if (range === undefined) throw new Error('there is room')
    const pieceBytes = 100_000
    const slotBytes = 102_400
    const { area, close } = await openSpillDisk(seen, range, pieceBytes)
    // More at once than there is aligned memory for, one of them shorter as the last piece is.
    const pieces = Array.from({ length: 10 }, (_, index) => randomBytes(index === 9 ? 1001 : pieceBytes))
    await Promise.all(pieces.map((piece, index) => area.write(piece, index * slotBytes)))
    // The work lets its disk go before the boot block is in; the pieces stay.
    await claimed.close()
    const back = await Promise.all(
      pieces.map(async (piece, index) => {
        const into = Buffer.alloc(piece.length)
        await area.read(into, index * slotBytes)
        return into
      }),
    )
    expect(back).toEqual(pieces)
    await close()
    const disk = await readFile(backing)
    expect(disk.subarray(0, range.offset).every((byte) => byte === 0xa5)).toBe(true)
    expect(disk.subarray(range.offset + range.length).every((byte) => byte === 0xa5)).toBe(true)
  },
)
