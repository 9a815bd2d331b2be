import { InvalidArgumentError } from 'commander'
import { expect, test } from 'vitest'
import { rate } from './options.ts'

test('a cap is bytes a second, with a unit or without', () => {
  expect(['1000', '100M', '1.5G', '64k', '50MB/s'].map(rate)).toEqual([1000, 1e8, 1.5e9, 64_000, 5e7])
})

test.each(['', '0', '999', '-1', 'fast', '10m', '1e9', 'M', '0x10', '50Mbit'])('%j is no cap', (text) => {
  expect(() => rate(text)).toThrow(InvalidArgumentError)
})
