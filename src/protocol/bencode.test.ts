import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Bencode, type BencodeValue, decodeBencode, encodeBencode, isDictionary } from './bencode.ts'

const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array))
const key = fc
  .oneof(
    fc.constantFrom('__proto__', 'constructor', 'e', '', '10', '9'),
    bytes.map((raw) => raw.toString('latin1')),
  )
  .filter((text) => text.length <= 40)
const { value: anyValue } = fc.letrec<{ value: Bencode }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.maxSafeInteger(),
    bytes,
    fc.array(tie('value'), { maxLength: 5 }),
    fc.array(fc.tuple(key, tie('value')), { maxLength: 5 }).map((pairs) => {
      const record = Object.create(null) as Record<string, Bencode>
      for (const [name, value] of pairs) record[name] = value
      return record
    }),
  ),
}))

/** As one line of text, so that a value can be compared whatever its prototype. */
function show(value: Bencode | BencodeValue): string {
  if (Buffer.isBuffer(value)) return `<${value.toString('hex')}>`
  if (typeof value !== 'object') return `${value}`
  if (Array.isArray(value)) return `[${value.map(show).join()}]`
  const entries = Object.entries(value as Record<string, Bencode>).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([name, item]) => `${JSON.stringify(name)}:${show(item)}`).join()}}`
}

test('decoding undoes encoding, and encoding again gives the same bytes', () => {
  fc.assert(
    fc.property(anyValue, (value) => {
      const encoded = encodeBencode(value)
      const decoded = decodeBencode(encoded, { depthMax: 100 })
      expect(show(decoded)).toBe(show(value))
      expect(encodeBencode(decoded)).toEqual(encoded)
    }),
    { numRuns: 500 },
  )
})

test('keys stand in the order of their bytes and strings are UTF-8', () => {
  expect(encodeBencode({ b: 1, a: 'ü', '\xff': [], B: -2, '10': 0, '9': {} }).toString('latin1')).toBe(
    'd2:10i0e1:9de1:Bi-2e1:a2:\xc3\xbc1:bi1e1:\xfflee',
  )
})

test('what bencode cannot say is refused', () => {
  for (const value of [1.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY, { ж: 1 }]) {
    expect(() => encodeBencode(value)).toThrow()
  }
})

test.each([
  ['', 0, 'the end comes too early'],
  ['i1', 2, 'the end comes inside a number'],
  ['ie', 1, 'something else than digits'],
  ['i-e', 2, 'something else than digits'],
  ['i-0e', 0, 'minus zero'],
  ['i01e', 1, 'a leading zero'],
  ['i00e', 1, 'a leading zero'],
  ['i+1e', 1, 'something else than digits'],
  ['i9007199254740992e', 1, 'above 2^53'],
  ['i99999999999999999999999999999999999999e', 1, 'above 2^53'],
  ['01:a', 0, 'a leading zero'],
  ['5:abcd', 0, 'reaches behind the end'],
  ['999999999999999:', 0, 'reaches behind the end'],
  ['1', 1, 'the end comes inside a number'],
  ['l', 1, 'the end comes too early'],
  ['d1:a', 4, 'the end comes too early'],
  ['di1ei2ee', 1, 'a key that is no string'],
  ['d1:ai1e1:ai2ee', 7, 'a second time'],
  ['i1ei2e', 3, 'behind the value'],
  ['x', 0, 'no value begins like this'],
])('%j is refused at offset %i: %s', (text, offset, sentence) => {
  const decode = () => decodeBencode(Buffer.from(text, 'latin1'))
  expect(decode).toThrow(`bencode, offset ${offset}: `)
  expect(decode).toThrow(sentence)
})

test('depth and size have limits', () => {
  const deep = Buffer.from(`${'l'.repeat(100_000)}${'e'.repeat(100_000)}`)
  expect(() => decodeBencode(deep)).toThrow('nested deeper than 16')
  expect(decodeBencode(Buffer.from('lllleeee'), { depthMax: 4 })).toEqual([[[[]]]])
  expect(() => decodeBencode(Buffer.from('lllleeee'), { depthMax: 3 })).toThrow('nested deeper than 3')
  expect(() => decodeBencode(Buffer.from('2:ab'), { bytesMax: 3 })).toThrow('more than 3')
})

test('keys out of order are taken, and the names of methods are plain keys', () => {
  const value = decodeBencode(Buffer.from('d1:bi1e1:ai2e9:__proto__i3e11:constructori4ee'))
  expect(isDictionary(value) && Object.entries(value)).toEqual([
    ['b', 1],
    ['a', 2],
    ['__proto__', 3],
    ['constructor', 4],
  ])
  expect(isDictionary([]) || isDictionary(Buffer.of()) || isDictionary(1) || isDictionary(undefined)).toBe(false)
})

test('any bytes decode or throw an Error that names a place', () => {
  const nearly = fc
    .array(fc.constantFrom('i', 'e', 'l', 'd', '1:a', '2:bb', '0:', 'i7e', '3', ':', '-'), { maxLength: 30 })
    .map((parts) => Buffer.from(parts.join('')))
  const damaged = fc.tuple(anyValue, fc.nat(), fc.nat(255), fc.nat()).map(([value, at, byte, length]) => {
    const encoded = encodeBencode(value)
    encoded[at % encoded.length] = byte
    return encoded.subarray(0, 1 + (length % encoded.length))
  })
  fc.assert(
    fc.property(fc.oneof(bytes, nearly, damaged), (input) => {
      try {
        decodeBencode(input)
      } catch (error) {
        expect(error).toBeInstanceOf(Error)
        expect((error as Error).message).toMatch(/^bencode, offset \d+: /)
      }
    }),
    { numRuns: 3000 },
  )
})
