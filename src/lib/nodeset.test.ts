import fc from 'fast-check'
import { expect, test } from 'vitest'
import { expandNodeset, foldNodeset, NodesetError } from './nodeset.ts'

test.each([
  ['n1', ['n1']],
  ['n[1-3]', ['n1', 'n2', 'n3']],
  ['n[08-11],!n09', ['n08', 'n10', 'n11']],
  ['n[1-2,5],login', ['n1', 'n2', 'n5', 'login']],
  ['r[1-2]n[1-2]', ['r1n1', 'r1n2', 'r2n1', 'r2n2']],
  ['n1,n1', ['n1']],
  ['n[1-3]-ib', ['n1-ib', 'n2-ib', 'n3-ib']],
])('%s stands for %j', (text, names) => {
  expect(expandNodeset(text)).toEqual(names)
})

test.each([
  ['n[1-', /not closed/],
  ['n[3-1]', /backwards/],
  ['n[a-b]', /not a range/],
  ['n1,,n2', /empty name/],
  ['n]1[', /bracket/],
  ['', /empty name/],
  ['n[0-999999999]', /more than 100000/],
  ['a b', /not a name/],
])('%j is refused', (text, message) => {
  expect(() => expandNodeset(text)).toThrow(NodesetError)
  expect(() => expandNodeset(text)).toThrow(message)
})

test('folding writes runs as ranges', () => {
  expect(foldNodeset(['n01', 'n02', 'n03', 'n10', 'login'])).toBe('n[01-03,10],login')
  expect(foldNodeset(['n1', 'n2', 'n9', 'n10', 'n11'])).toBe('n[1-2,9-11]')
})

test('whatever is folded unfolds to the same names', () => {
  const name = fc
    .tuple(fc.constantFrom('n', 'rack1-', 'x'), fc.integer({ min: 0, max: 120 }), fc.constantFrom(0, 2, 3))
    .map(([prefix, number, width]) => prefix + String(number).padStart(width, '0'))
  fc.assert(
    fc.property(fc.uniqueArray(name, { minLength: 1 }), (names) => {
      expect(expandNodeset(foldNodeset(names)).sort()).toEqual([...names].sort())
    }),
  )
})

test('a huge range is refused at once, also when it is taken away', () => {
  for (const text of ['n[0-999999999]', 'n1,!n[0-999999999]', 'n[0-9][0-999999999]', '!n[0-99999][0-99999]']) {
    expect(() => expandNodeset(text), text).toThrow(NodesetError)
  }
})
