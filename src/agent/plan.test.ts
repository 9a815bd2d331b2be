import fc from 'fast-check'
import { expect, test } from 'vitest'
import { frameSizeBytes, type Manifest, type ManifestFrame } from '../model/image.ts'
import { planBatches, planZeros } from './plan.ts'
import { rateOf } from './report.ts'

const limits = { batchBytesMax: 1000, batchFramesMax: 4 }
const zeroBytesMax = 3 * frameSizeBytes

function manifestOf(frames: readonly { isZero: boolean; length: number }[], lastBytes: number): Manifest {
  let offset = 0
  const laid = frames.map(({ isZero, length }): ManifestFrame => {
    const place = { offset, length }
    offset += length
    return isZero ? { class: 'zero', ...place } : { class: 'data', ...place, sha256: '', rawSha256: '' }
  })
  const sizeBytes = (frames.length - 1) * frameSizeBytes + lastBytes
  return { format: 1, sizeBytes, frameSizeBytes, storedBytes: offset + 17, sectorBytes: 512, frames: laid }
}

const worlds = fc.record({
  frames: fc.array(fc.record({ isZero: fc.boolean(), length: fc.integer({ min: 1, max: 1500 }) }), {
    minLength: 1,
    maxLength: 40,
  }),
  lastBytes: fc.integer({ min: 1, max: frameSizeBytes }),
})

test('every byte of the disk is planned exactly once, within the limits', () => {
  fc.assert(
    fc.property(worlds, ({ frames, lastBytes }) => {
      const manifest = manifestOf(frames, lastBytes)
      const plan = { batches: planBatches(manifest, limits), zeros: planZeros(manifest, zeroBytesMax) }
      const covered = new Set<number>()
      for (const batch of plan.batches) {
        expect(batch.frames.length).toBeLessThanOrEqual(limits.batchFramesMax)
        if (batch.frames.length > 1) expect(batch.length).toBeLessThanOrEqual(limits.batchBytesMax)
        let at = batch.offset
        for (const number of batch.frames) {
          expect(manifest.frames[number]).toMatchObject({ class: 'data', offset: at })
          at += manifest.frames[number]?.length ?? 0
          covered.add(number)
        }
        expect(at).toBe(batch.offset + batch.length)
      }
      for (const range of plan.zeros) {
        expect(range.length).toBeLessThanOrEqual(zeroBytesMax)
        for (let at = range.offset; at < range.offset + range.length; at += frameSizeBytes) {
          expect(manifest.frames[at / frameSizeBytes]?.class).toBe('zero')
          covered.add(at / frameSizeBytes)
        }
      }
      expect(covered.size).toBe(frames.length)
      const planned = plan.batches.reduce((sum, batch) => sum + batch.frames.length, 0)
      const zeroBytes = plan.zeros.reduce((sum, range) => sum + range.length, 0)
      const expected = frames.reduce((sum, { isZero }, number) => {
        return sum + (isZero ? Math.min(frameSizeBytes, manifest.sizeBytes - number * frameSizeBytes) : 0)
      }, 0)
      expect(planned).toBe(frames.filter(({ isZero }) => !isZero).length)
      expect(zeroBytes).toBe(expected)
    }),
  )
})

test('only wanted frames are asked for, and what lies between two of them is not', () => {
  const frames = Array.from({ length: 6 }, () => ({ isZero: false, length: 10 }))
  const batches = planBatches(manifestOf(frames, 100), limits, (number) => number !== 2 && number !== 3)
  expect(batches).toEqual([
    { offset: 0, length: 20, frames: [0, 1] },
    { offset: 40, length: 20, frames: [4, 5] },
  ])
})

test('a run of zero frames is one range until it is too long', () => {
  const frames = Array.from({ length: 5 }, () => ({ isZero: true, length: 10 }))
  expect(planZeros(manifestOf(frames, 100), zeroBytesMax)).toEqual([
    { offset: 0, length: 3 * frameSizeBytes },
    { offset: 3 * frameSizeBytes, length: frameSizeBytes + 100 },
  ])
})

test('the rate is over the samples that there are', () => {
  expect(rateOf([])).toBe(0)
  expect(rateOf([{ atMs: 0, bytes: 5 }])).toBe(0)
  expect(
    rateOf([
      { atMs: 1000, bytes: 100 },
      { atMs: 2000, bytes: 900 },
      { atMs: 3000, bytes: 1100 },
    ]),
  ).toBe(500)
})
