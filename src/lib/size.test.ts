import { expect, test } from 'vitest'
import { parseRate, parseSize } from './size.ts'

test.each([
  ['0', 0],
  ['4096', 4096],
  ['4096 B', 4096],
  ['500GB', 500e9],
  ['20 GiB', 20 * 2 ** 30],
  ['9007199254740991', Number.MAX_SAFE_INTEGER],
])('the size %s has %i bytes', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes)
})

test.each(['', 'GB', '1.5GB', '-1', '20 gb', '1e9', '0x10', '9007199254740992', '999999TiB', '5/s', '5 constructor'])(
  '%j is no size',
  (text) => {
    expect(parseSize(text)).toBeUndefined()
  },
)

test.each([
  ['50MB/s', 50e6],
  ['50M', 50e6],
  ['50 M/s', 50e6],
  ['1G', 1e9],
  ['1.5G', 1.5e9],
  ['64k', 64_000],
  ['100MiB/s', 100 * 2 ** 20],
  ['1000000', 1e6],
])('the rate %s is %i bytes a second', (text, rate) => {
  expect(parseRate(text)).toBe(rate)
})

test.each(['', '/s', '50Mbit/s', '50MB/min', '1.2345M', '.5M', '1e9', '-1', 'fast', '50m', '9999999999999999'])(
  '%j is no rate',
  (text) => {
    expect(parseRate(text)).toBeUndefined()
  },
)
