import { expect, test } from 'vitest'
import { lanesFor, pieceBudgetFor } from './memory-plan.ts'

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
