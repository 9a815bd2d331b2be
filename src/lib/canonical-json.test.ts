import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonicalJson } from './canonical-json.ts'

test('names are in order at every depth, and nothing undefined is said', () => {
  expect(canonicalJson({ b: [{ z: 1, a: null }], a: 'x"', c: undefined })).toBe('{"a":"x\\"","b":[{"a":null,"z":1}]}')
})

test('whatever JSON can say is read back the same, and its form does not depend on the order of fields', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = canonicalJson(value)
      expect(canonicalJson(JSON.parse(text))).toBe(text)
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
    }),
  )
})
