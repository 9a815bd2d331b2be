import { InvalidArgumentError } from 'commander'
import { expect, test } from 'vitest'
import { bytesPerSecond } from './services.ts'

test.each([
  ['1', 1],
  ['100M', 100_000_000],
  ['1.5G', 1_500_000_000],
  ['64k', 64_000],
])('the rate %s is %i bytes a second', (text, rate) => {
  expect(bytesPerSecond(text)).toBe(rate)
})

test.each(['', '0', '0.4', '-1', 'fast', '10m', '10 M', '1e9', 'M', '0x10', '10MB'])('%j is no rate', (text) => {
  expect(() => bytesPerSecond(text)).toThrow(InvalidArgumentError)
})
