import { truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { testFolder } from '../image/testing.ts'
import { FileStore, openFileStore } from './file-store.ts'

const geometry = { totalBytes: 35_000, pieceBytes: 4096 }
const content = Buffer.from(Array.from({ length: geometry.totalBytes }, (_, at) => (at * 7 + (at >> 8)) & 0xff))

function file(bytes = content): string {
  const path = join(testFolder(), 'image.zst')
  writeFileSync(path, bytes)
  return path
}

test('every piece is there, the last as long as the rest', async () => {
  const store = await openFileStore(file(), geometry)
  onTestFinished(() => store.close())
  expect(store.bitfield()).toEqual(Buffer.from([0xff, 0x80]))
  for (let piece = 0; piece < 9; piece++) {
    expect(store.has(piece)).toBe(true)
    expect(await store.read(piece)).toEqual(content.subarray(piece * 4096, (piece + 1) * 4096))
  }
  expect(store.has(9)).toBe(false)
  await expect(store.read(9)).rejects.toThrow('has no piece 9')
})

test('the same piece asked for within moments is read once, and the cache stays small', async () => {
  const path = file()
  const handle = await open(path)
  const store = new FileStore({ path, handle, geometry, cacheBytes: 3 * 4096 })
  onTestFinished(() => store.close())
  const [first, again] = await Promise.all([store.read(0), store.read(0)])
  expect(first).toBe(again)
  // At once now, and still the same memory.
  expect(store.read(0)).toBe(first)
  for (const piece of [1, 2, 0, 3]) await store.read(piece)
  expect(store.read(0)).toBe(first)
  expect(store.read(1)).toBeInstanceOf(Promise)
})

test('a file of another length is refused', async () => {
  const path = file(content.subarray(1))
  await expect(openFileStore(path, geometry)).rejects.toThrow(`${path} has 34999 bytes, its torrent says 35000`)
})

test('a file that becomes shorter is an error of the pieces that are gone, and of no others', async () => {
  const path = file()
  const store = await openFileStore(path, geometry)
  onTestFinished(() => store.close())
  truncateSync(path, 10_000)
  await expect(store.read(2)).rejects.toThrow(`${path} has become shorter: it ends at 10000 of 35000 bytes`)
  expect(await store.read(1)).toEqual(content.subarray(4096, 8192))
  writeFileSync(path, content)
  expect(await store.read(2)).toEqual(content.subarray(8192, 12_288))
})
