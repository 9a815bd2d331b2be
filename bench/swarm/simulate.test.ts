import { describe, expect, test } from 'vitest'
import { simulate, type World } from './simulate.ts'

/** 16 hosts at 1.9 MB/s each; 512 pieces of 32 KiB. */
const world: World = {
  geometry: { totalBytes: 512 * 32_768, pieceBytes: 32_768 },
  nodes: 16,
  linkBytesPerSecond: 1.9e6,
  originBytesPerSecond: 1.9e6,
  rackSize: 16,
  rackOversubscription: 1,
  racksPerSite: 1,
  wanBytesPerSecond: 1e9,
  latencyMs: 0.2,
  wanLatencyMs: 10,
  startSpreadMs: 0,
  seed: 1,
}
const clean = simulate(world)

test('16 hosts in a pipeline end near the limit, with one copy out of the origin', () => {
  expect(clean.limitMs / clean.lastMs).toBeGreaterThan(0.93)
  expect(clean.originCopies).toBeLessThan(1.01)
})

test('the same seed gives the same run', () => {
  expect(simulate(world)).toEqual(clean)
})

test('600 hosts in racks with oversubscribed up-links and two sites: one copy into each', () => {
  const many = simulate({
    ...world,
    nodes: 600,
    rackSize: 40,
    rackOversubscription: 20,
    racksPerSite: 8,
    wanBytesPerSecond: 3.8e6,
  })
  expect(many.limitMs / many.lastMs).toBeGreaterThan(0.88)
  for (const copies of [many.originCopies, many.rackCopiesMax, many.siteCopiesMax]) expect(copies).toBeLessThan(1.05)
})

describe('what happens to some hosts costs the others little', () => {
  test.each([
    { kind: 'kill', part: 0.1, atMs: 3000, costMs: 500 },
    { kind: 'late', part: 0.2, atMs: 3000, costMs: 500 },
    // Who is slow is known after a second or two, and passed over.
    { kind: 'slow', part: 0.05, atMs: 3000, costMs: 6000 },
  ] as const)('$kind', ({ costMs, ...fault }) => {
    for (const seed of [1, 2, 3]) {
      const { othersLastMs } = simulate({ ...world, seed, faults: [fault] })
      expect(othersLastMs - clean.lastMs, `seed ${seed}`).toBeLessThan(costMs)
    }
  })
})
