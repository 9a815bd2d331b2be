import { expect, test } from 'vitest'
import { last, limitSeconds, median } from './limit.ts'

test('96 MiB over 16 Mbit/s take 52.6 s net of the headers of Ethernet, IP and TCP', () => {
  expect(limitSeconds({ imageBytes: 96 * 2 ** 20, linkMbit: 16 })).toBeCloseTo(52.626, 3)
})

test('a disk slower than the link is the limit, a faster one is none', () => {
  expect(limitSeconds({ imageBytes: 8e6, linkMbit: 16, diskMbit: 8 })).toBe(8)
  expect(limitSeconds({ imageBytes: 8e6, linkMbit: 16, diskMbit: 80 })).toBe(
    limitSeconds({ imageBytes: 8e6, linkMbit: 16 }),
  )
})

test('a node that never ends is the last one, and the median only when it stands there', () => {
  expect(median([3, 1, null])).toBe(3)
  expect(median([1, null])).toBeNull()
  expect(median([])).toBeNull()
  expect(last([3, 1, null])).toBeNull()
  expect(last([3, 1])).toBe(3)
})
