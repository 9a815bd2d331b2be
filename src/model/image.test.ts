import { expect, test } from 'vitest'
import { formatImageReference, parseImageReference } from './image.ts'

test('a reference is read into name and version and written back', () => {
  expect(parseImageReference('debian:12')).toEqual({ name: 'debian', version: '12' })
  for (const text of ['debian:12', 'a:b', 'web.front_end-2:2024-01.rc_1']) {
    expect(formatImageReference(parseImageReference(text))).toBe(text)
  }
})

test('a missing version is answered with what to write', () => {
  expect(() => parseImageReference('debian')).toThrow('image "debian" has no version: write debian:<version>')
  expect(() => parseImageReference('debian:')).toThrow('has no version')
})

test.each(['', ':12', 'Debian:12', '-a:1', 'a b:1', '../x:1', `${'a'.repeat(129)}:1`])(
  'the name of %j is refused',
  (text) => {
    expect(() => parseImageReference(text)).toThrow('does not start with a name')
  },
)

test.each(['a:1:2', 'a:B', 'a:-1', 'a:1/2', `a:${'1'.repeat(129)}`, 'a:1\n'])('%j is refused', (text) => {
  expect(() => parseImageReference(text)).toThrow(expect.objectContaining({ code: 'bad-input', at: 'image' }))
})
