import { expect, test } from 'vitest'
import { capturePlanFor, lanesFor, pieceBudgetFor } from './memory-plan.ts'

const mebibyte = 1024 * 1024

// The kernel keeps some of a machine's memory: 1 GiB shows as less.
test.each([
  { machine: '64 MiB', shows: 60, lanes: 1, pieces: 64 },
  { machine: '512 MiB', shows: 480, lanes: 3, pieces: 96 },
  { machine: '1 GiB', shows: 970, lanes: 5, pieces: 236 },
  { machine: '2 GiB', shows: 1970, lanes: 5, pieces: 686 },
  { machine: '4 GiB', shows: 3920, lanes: 5, pieces: 1564 },
  { machine: '64 GiB', shows: 64_300, lanes: 5, pieces: 28_735 },
])('a machine of $machine has $lanes lanes and $pieces MiB for pieces', ({ shows, lanes, pieces }) => {
  expect(lanesFor(shows * mebibyte)).toBe(lanes)
  expect(Math.floor(pieceBudgetFor(shows * mebibyte) / mebibyte)).toBe(pieces)
})

test.each([
  { shows: 60, map: 1, plan: { lanes: 2, hasMap: false } },
  { shows: 320, map: 1, plan: { lanes: 3, hasMap: true } },
  { shows: 320, map: 128, plan: { lanes: 3, hasMap: false } },
  { shows: 480, map: 32, plan: { lanes: 4, hasMap: true } },
  { shows: 480, map: 128, plan: { lanes: 2, hasMap: true } },
  { shows: 970, map: 128, plan: { lanes: 6, hasMap: true } },
])('a capture with $shows MiB of memory and a map of $map MiB has $plan.lanes lanes, map: $plan.hasMap', (given) => {
  expect(capturePlanFor(given.shows * mebibyte, given.map * mebibyte)).toEqual(given.plan)
})
