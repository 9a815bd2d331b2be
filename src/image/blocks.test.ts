import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { blockBytes, frameSizeBytes } from '../model/image.ts'
import {
  blockSums,
  bytesOf,
  differingBlocks,
  formatBlockSet,
  parseBlockSet,
  putBlocks,
  rangesOf,
  takeBlocks,
} from './blocks.ts'

/** A frame, and the same with other bytes in some of its blocks. */
function changed(length: number, blocks: readonly number[]) {
  const wanted = randomBytes(length)
  const there = Buffer.from(wanted)
  for (const at of blocks.map((block) => (block * blockBytes) % length)) there.writeUInt8(there.readUInt8(at) ^ 1, at)
  const all = Array.from({ length: Math.ceil(length / blockBytes) }, (_, block) => block)
  const isOther = (block: number) => {
    const [from, end] = [block * blockBytes, Math.min(length, (block + 1) * blockBytes)]
    return !wanted.subarray(from, end).equals(there.subarray(from, end))
  }
  return { wanted, there, blocks: all.filter(isOther) }
}

test('whatever differs, sums name exactly those blocks, and with them one becomes the other', () => {
  const length = fc.oneof(fc.constant(frameSizeBytes), fc.integer({ min: 1, max: frameSizeBytes }))
  fc.assert(
    fc.property(length, fc.array(fc.nat({ max: 1023 }), { maxLength: 40 }), (bytes, places) => {
      const { wanted, there, blocks } = changed(bytes, places)
      const set = differingBlocks(blockSums(there), blockSums(wanted))
      const named = rangesOf(set, bytes).flatMap(({ offset, length }) =>
        Array.from({ length: Math.ceil(length / blockBytes) }, (_, index) => offset / blockBytes + index),
      )
      expect(named).toEqual(blocks)
      if (blocks.length > 0) expect(parseBlockSet(formatBlockSet(set), bytes)?.equals(set)).toBe(true)
      const packed = takeBlocks(wanted, set)
      expect(packed.length).toBe(bytesOf(set, bytes))
      putBlocks(there, set, packed)
      expect(there.equals(wanted)).toBe(true)
    }),
    { numRuns: 60 },
  )
})

test.each([
  { name: 'no block at all', text: Buffer.alloc(128).toString('base64url') },
  { name: 'too few bits', text: Buffer.alloc(127, 1).toString('base64url') },
  { name: 'too many', text: Buffer.alloc(129, 1).toString('base64url') },
  { name: 'other letters', text: `${Buffer.alloc(128, 1).toString('base64url').slice(0, -1)}!` },
  { name: 'very many', text: 'A'.repeat(1_000_000) },
])('a set with $name is none', ({ text }) => {
  expect(parseBlockSet(text, frameSizeBytes)).toBeUndefined()
})

test('a set that names a block behind the end of a short frame is none', () => {
  const set = Buffer.from([0b0001_0000])
  expect(parseBlockSet(set.toString('base64url'), 3 * blockBytes + 1)).toEqual(set)
  expect(parseBlockSet(set.toString('base64url'), 3 * blockBytes)).toBeUndefined()
})

test('blocks that are more or fewer than the set are not put anywhere', () => {
  const set = Buffer.from([0b1000_0000])
  const raw = Buffer.alloc(2 * blockBytes)
  expect(() => putBlocks(raw, set, Buffer.alloc(blockBytes + 1))).toThrow('4097 bytes of blocks')
  expect(() => putBlocks(raw, set, Buffer.alloc(blockBytes - 1))).toThrow('4095 bytes of blocks')
  expect(() => differingBlocks(Buffer.alloc(8), Buffer.alloc(4))).toThrow('4 bytes of sums for 8')
})
