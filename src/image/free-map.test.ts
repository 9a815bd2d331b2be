import fc from 'fast-check'
import { expect, test } from 'vitest'
import { blockBytes, blockRunsMax, frameSizeBytes } from '../model/image.ts'
import { FreeMap } from './free-map.ts'

const blocks = frameSizeBytes / blockBytes

test('what is free and kept is, block by block, what was said last, and never a block that was only touched', () => {
  const range = fc.record({
    isFree: fc.boolean(),
    offset: fc.nat(2 * frameSizeBytes),
    length: fc.oneof(fc.nat(20_000), fc.nat(frameSizeBytes)),
  })
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), fc.integer({ min: 1, max: 4095 }), (ranges, tail) => {
      const sizeBytes = 2 * frameSizeBytes - tail
      const map = new FreeMap(sizeBytes)
      const model = Array.from({ length: 2 * blocks }, () => false)
      for (const { isFree, offset, length } of ranges) {
        if (isFree) map.free(offset, length)
        else map.keep(offset, length)
        for (let block = 0; block < model.length; block++) {
          const [from, end] = [block * blockBytes, Math.min((block + 1) * blockBytes, sizeBytes)]
          if (from >= sizeBytes) continue
          if (isFree && from >= offset && end <= offset + length) model[block] = true
          if (!isFree && offset < end && offset + length > from && length > 0) model[block] = false
        }
      }
      expect(Array.from({ length: 2 * blocks }, (_, block) => map.isFree(block))).toEqual(model)
      for (const frame of [0, 1]) {
        const rawBytes = Math.min(frameSizeBytes, sizeBytes - frame * frameSizeBytes)
        const runs = map.runsOf(frame, rawBytes)
        const own = model.slice(frame * blocks, (frame + 1) * blocks)
        const raw = Buffer.alloc(rawBytes, 1)
        map.clear(raw, frame * frameSizeBytes)
        expect(own.slice(0, Math.ceil(rawBytes / blockBytes))).toEqual(firstBytesOf(raw).map((byte) => byte === 0))
        expect(raw.at(-1)).toBe(raw[Math.floor((rawBytes - 1) / blockBytes) * blockBytes])
        if (runs === undefined) {
          expect(own.includes(true)).toBe(false)
          continue
        }
        expect(runs.length).toBeLessThanOrEqual(blockRunsMax)
        const written = Array.from({ length: blocks }, () => false)
        for (const [first, count] of runs) written.fill(true, first, first + count)
        // All that is kept is written.
        expect(own.every((isFree, block) => isFree || written[block])).toBe(true)
        if (runs.length === 0) expect(own.includes(false)).toBe(false)
      }
    }),
    { numRuns: 60 },
  )
})

/** The first byte of every block. */
function firstBytesOf(raw: Buffer): number[] {
  return Array.from({ length: Math.ceil(raw.length / blockBytes) }, (_, block) => raw[block * blockBytes] ?? -1)
}

test('of many gaps the longest are left out, and short ones are written', () => {
  const map = new FreeMap(frameSizeBytes)
  // Gaps of 16 to 35 blocks, each behind a block that is kept, and one of 3 at the end.
  let at = 1
  for (let gap = 16; gap < 36; gap++) {
    map.free(at * blockBytes, gap * blockBytes)
    at += gap + 1
  }
  map.free(at * blockBytes, 3 * blockBytes)
  const runs = map.runsOf(0, frameSizeBytes) ?? []
  expect(runs.length).toBe(blockRunsMax)
  const gaps = runs.slice(1).map(([first], index) => first - ((runs[index]?.[0] ?? 0) + (runs[index]?.[1] ?? 0)))
  expect(gaps).toEqual([21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35])
})
