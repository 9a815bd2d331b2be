import fc from 'fast-check'
import { expect, test } from 'vitest'
import { attributeOf, childOf, childrenOf, parseXml, XmlError, xml } from './xml.ts'

function refusal(document: string, limits = {}): XmlError {
  try {
    parseXml(document, limits)
  } catch (error) {
    if (error instanceof XmlError) return error
    throw error
  }
  throw new Error('it was accepted')
}

test('a document becomes a tree with namespaces resolved and places known', () => {
  const root = parseXml(
    '<?xml version="1.0" encoding="UTF-8"?>\n<a xmlns="urn:a" xmlns:b="urn:b" x="1" b:x="2">t<b:c/>u</a>',
  )
  expect(root).toMatchObject({ name: 'a', namespace: 'urn:a', text: 'tu', line: 2 })
  expect(attributeOf(root, 'x')).toBe('1')
  expect(attributeOf(root, 'x', 'urn:b')).toBe('2')
  expect(childOf(root, 'c', 'urn:b')?.line).toBe(2)
  expect(childrenOf(root, 'c')).toEqual([])
  expect(root.attributes).toHaveLength(2)
})

test('CDATA, character references and line ends become plain text', () => {
  expect(parseXml('<a>&lt;<![CDATA[&amp;]]>&#13;\r\n&#x1F600;</a>').text).toBe('<&amp;\r\n😀')
})

test('a document that is not well-formed is refused with line and column', () => {
  const error = refusal('<a>\n  <b></a>')
  expect(error.line).toBe(2)
  expect(error.message).toMatch(/^line 2, column \d+: this is not well-formed XML: /)
  for (const bad of [
    '',
    ' ',
    '<a',
    '<a/><b/>',
    '<a b="1" b="2"/>',
    '<p:a/>',
    '<a>&nbsp;</a>',
    '<a>\u0001</a>',
    '<a>&#0;</a>',
    'x<a/>',
    '<a b=1/>',
    '<a xmlns:p="u" xmlns:q="u" p:x="" q:x=""/>',
  ]) {
    expect(refusal(bad), bad).toBeInstanceOf(XmlError)
  }
})

test('document types, entities, processing instructions, other versions and encodings are refused', () => {
  expect(refusal('<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>').message).toMatch(/DOCTYPE/)
  expect(refusal('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>').message).toMatch(/DOCTYPE/)
  expect(refusal('<?xml-stylesheet href="x"?><a/>').message).toMatch(/processing instruction/)
  expect(refusal('<a><?php x?></a>').message).toMatch(/processing instruction "php"/)
  expect(refusal('<?xml version="1.1"?><a/>')).toBeInstanceOf(XmlError)
  expect(refusal('<?xml version="1.0" encoding="UTF-16"?><a/>').message).toMatch(/only UTF-8/)
})

test('depth, attributes, elements, names and length are limited before they cost time', () => {
  expect(refusal('<a>'.repeat(200_000)).message).toMatch(/nested deeper than 32/)
  expect(refusal(`<a ${Array.from({ length: 50_000 }, (_, i) => `b${i}="1"`).join(' ')}/>`).message).toMatch(
    /64 attrib/,
  )
  expect(refusal(`<a ${Array.from({ length: 20_000 }, (_, i) => `xmlns:b${i}="u"`).join(' ')}/>`).message).toMatch(
    /64 a/,
  )
  expect(refusal(`<a>${'<b/>'.repeat(150_000)}</a>`).message).toMatch(/more than 100000 elements/)
  expect(refusal(`<${'a'.repeat(100_000)}/>`).message).toMatch(/name .* longer/)
  expect(refusal(`<a>${'x'.repeat(2 ** 20)}</a>`).message).toMatch(/longer than 1048576/)
})

test('names that mean something to JavaScript are ordinary names', () => {
  const root = parseXml('<__proto__ __proto__="1" constructor="2"><toString/></__proto__>')
  expect(root.name).toBe('__proto__')
  expect(attributeOf(root, '__proto__')).toBe('1')
  expect(root.children[0]?.name).toBe('toString')
})

test('the template escapes strings, keeps markup, joins lists and leaves out undefined', () => {
  const item = (text: string) => xml`<i t="${text}">${text}</i>`
  expect(String(xml`<a n="${1}">${[item('<"&>'), item('x')]}${undefined}</a>`)).toBe(
    '<a n="1"><i t="&lt;&quot;&amp;&gt;">&lt;"&amp;&gt;</i><i t="x">x</i></a>',
  )
})

test('any text comes back as it was written, except what XML cannot carry', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }), (wild, tame) => {
      for (const text of [wild, tame, `${tame}\r\n\t"'<]]>&`]) {
        const root = parseXml(String(xml`<a b="${text}">${text}</a>`))
        const expected = text.replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, '\uFFFD')
        expect(root.text).toBe(expected)
        expect(attributeOf(root, 'b')).toBe(expected)
      }
    }),
    { numRuns: 50 },
  )
})
