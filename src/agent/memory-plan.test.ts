import { expect, test } from 'vitest'
import { lanesFor } from './memory-plan.ts'

test('a small machine gets fewer lanes and never none', () => {
  const mebibyte = 1024 * 1024
  // The kernel keeps some of a machine's memory: 1 GiB shows as less.
  expect([64, 480, 970, 64_000].map((size) => lanesFor(size * mebibyte))).toEqual([1, 3, 5, 5])
})
