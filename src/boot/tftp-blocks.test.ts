import { appendFile, mkdtemp, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { decodePacket, toNetascii } from '../protocol/tftp.ts'
import { BlockBuffer } from './tftp-blocks.ts'
import { type ContentReader, openContent } from './tftp-content.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-blocks-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function fileOf(name: string, bytes: Uint8Array) {
  const path = join(folder, name)
  await writeFile(path, bytes)
  return { kind: 'file', path, sizeBytes: bytes.length } as const
}

/** All blocks' data in order, taken the way a client with this window takes them; the block numbers are checked. */
async function drain(reader: ContentReader, shape: { blksize: number; windowsize: number }): Promise<Buffer> {
  const blocks = new BlockBuffer(reader, shape)
  const taken: Buffer[] = []
  let acked = 0
  while (acked !== blocks.last) {
    while (blocks.hasRoom(acked)) await blocks.load(false)
    // The whole window must be in memory at once, for it may have to be sent again.
    const end = Math.min(acked + shape.windowsize, blocks.ready)
    for (let block = acked + 1; block <= end; block++) {
      const packet = decodePacket(blocks.packet(block))
      if (packet.op !== 'data') throw new Error(`a block became ${packet.op}`)
      expect(packet.block).toBe(block & 0xffff)
      if (block !== blocks.last) expect(packet.data.length).toBe(shape.blksize)
      else expect(packet.data.length).toBeLessThan(shape.blksize)
      taken.push(Buffer.from(packet.data))
    }
    acked = end
  }
  expect(blocks.bytesUpTo(acked)).toBe(Buffer.concat(taken).length)
  await blocks.close()
  return Buffer.concat(taken)
}

const noise = (length: number) => Buffer.from(Array.from({ length }, (_, i) => (i * 2_654_435_761) >>> 24))

test('the blocks of any content, cut to any size, are the content', async () => {
  const shape = fc.record({ blksize: fc.integer({ min: 8, max: 5000 }), windowsize: fc.integer({ min: 1, max: 20 }) })
  const source = noise(120_000)
  await fc.assert(
    fc.asyncProperty(shape, fc.integer({ min: 0, max: source.length }), async (shape, length) => {
      const bytes = source.subarray(0, length)
      const file = await fileOf('any', bytes)
      expect((await drain(await openContent(file, 'octet'), shape)).equals(bytes)).toBe(true)
    }),
    { numRuns: 40 },
  )
})

test('a content that fills its last block is ended by an empty one', async () => {
  for (const length of [0, 512, 1024, 64 * 512, 128 * 512, 129 * 512]) {
    const file = await fileOf('even', noise(length))
    expect((await drain(await openContent(file, 'octet'), { blksize: 512, windowsize: 4 })).length).toBe(length)
  }
})

test('rendered text is sent as UTF-8, with its size in bytes', async () => {
  const reader = await openContent({ kind: 'rendered', body: 'grün\n' }, 'octet')
  expect(reader.sizeBytes).toBe(6)
  expect((await drain(reader, { blksize: 8, windowsize: 1 })).toString()).toBe('grün\n')
})

test('netascii is translated across the borders of what is read and what is sent', async () => {
  const bytes = Buffer.from(Array.from({ length: 30_000 }, (_, i) => [0x0a, 0x0d, 0x61][(i * i + i) % 3] ?? 0))
  const file = await fileOf('text', bytes)
  const reader = await openContent(file, 'netascii')
  expect(reader.sizeBytes).toBeUndefined()
  expect((await drain(reader, { blksize: 9, windowsize: 3 })).equals(toNetascii(bytes))).toBe(true)
})

test('no more than two chunks of a large content are read before the client takes them', async () => {
  let asked = 0
  const endless: ContentReader = {
    sizeBytes: undefined,
    fill: (target) => {
      asked += target.length
      return Promise.resolve(target.length)
    },
    close: () => Promise.resolve(),
  }
  const blocks = new BlockBuffer(endless, { blksize: 1428, windowsize: 64 })
  while (blocks.hasRoom(0)) await blocks.load(false)
  expect(asked).toBe(2 * 64 * 1428)
  expect(blocks.hasRoom(63)).toBe(false)
  expect(blocks.hasRoom(64)).toBe(true)
})

test('packets that still wait in the socket keep their bytes when the next chunk is read', async () => {
  const file = await fileOf('queued', noise(200_000))
  const blocks = new BlockBuffer(await openContent(file, 'octet'), { blksize: 512, windowsize: 1 })
  while (blocks.hasRoom(0)) await blocks.load(false)
  const queued = blocks.packet(1)
  const before = Buffer.from(queued)
  await blocks.load(true)
  expect(queued.equals(before)).toBe(true)
  await blocks.close()
})

test.each([
  ['shorter', (path: string) => truncate(path, 100), /became shorter/],
  ['longer', (path: string) => appendFile(path, 'more'), /changed while it was sent/],
  ['another of the same size', (path: string) => utimes(path, 1, 1), /changed while it was sent/],
])('a file that becomes %s while it is read is an error', async (_how, change, expected) => {
  const file = await fileOf('changing', noise(100_000))
  const reader = await openContent(file, 'octet')
  await reader.fill(Buffer.alloc(1000))
  await change(file.path)
  await expect(drain(reader, { blksize: 512, windowsize: 1 })).rejects.toThrow(expected)
  await reader.close()
})

test('a folder or a missing file cannot be opened', async () => {
  await expect(openContent({ kind: 'file', path: folder, sizeBytes: 1 }, 'octet')).rejects.toThrow(/no regular file/)
  const gone = { kind: 'file', path: join(folder, 'gone'), sizeBytes: 1 } as const
  await expect(openContent(gone, 'octet')).rejects.toThrow(/ENOENT/)
})
