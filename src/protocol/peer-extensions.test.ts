import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeRuns, encodeRuns } from './peer-extensions.ts'

describe('pieces in runs', () => {
  test('come out as they went in, in order and once each', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(500), { minLength: 1 }), (pieces) => {
        const sorted = [...new Set(pieces)].toSorted((a, b) => a - b)
        expect(decodeRuns(encodeRuns(pieces), 501)).toEqual(sorted)
      }),
    )
  })

  test('take eight bytes however long a run is', () => {
    expect(encodeRuns([5, 3, 4])).toEqual(Buffer.from('0000000300000003', 'hex'))
  })

  test.each([
    ['half a run', '00000003', /eight bytes a run/],
    ['pieces that do not exist', '0000000300000008', /8 pieces from 3 on, where there are 10/],
    ['more pieces than there are, to keep us busy', '000000000000000a'.repeat(2), /where there are 10/],
  ])('%s is refused', (_, hex, message) => {
    expect(() => decodeRuns(Buffer.from(hex, 'hex'), 10)).toThrow(message)
  })
})
