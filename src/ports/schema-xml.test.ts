import fc from 'fast-check'
import { XmlDocument, XsdValidator } from 'libxml2-wasm'
import { Type } from 'typebox'
import { describe, expect, test } from 'vitest'
import { checkInput } from '../contract/check.ts'
import { controlPort } from '../contract/control.ts'
import type { Operation, Port } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { fromRestForm, pathFields, restBase, toRestForm } from '../contract/rest-form.ts'
import { servicePort } from '../contract/service.ts'
import { schemaOf } from '../lib/schema.ts'
import { XmlError } from '../lib/xml.ts'
import { Failure } from '../model/failure.ts'
import { decodeEnvelope, encodeEnvelope, SoapError } from '../protocol/soap.ts'
import { arbitraryOf } from './fake-handlers.ts'
import { decodeRoot, encodeRoot, writeXsd, xsdPattern } from './schema-xml.ts'
import { xsdOf } from './wsdl.ts'

const ports: readonly Port[] = [controlPort, servicePort, powerPort]
const operations = ports.flatMap((port) =>
  Object.entries(port.operations).map(([name, operation]) => ({
    port,
    name,
    operation,
    title: `${port.name}.${name}`,
  })),
)

function throughSoap(port: Port, name: string, operation: Operation, input: unknown): unknown {
  const schema = schemaOf(operation.input)
  const { body } = decodeEnvelope(encodeEnvelope('1.2', encodeRoot(schema, name, port.namespace, input)))
  return checkInput(operation, decodeRoot(schema, body))
}

function throughRest(port: Port, operation: Operation, input: unknown): unknown {
  const form = toRestForm(port, operation, input as Record<string, unknown>)
  const url = new URL(form.path, 'http://localhost')
  const pattern = operation.rest.path.replace(/\{\w+\}/g, '([^/]*)')
  const values = new RegExp(`^${restBase(port)}${pattern}$`).exec(url.pathname)?.slice(1) ?? []
  const path = Object.fromEntries(pathFields(operation).map((name, i) => [name, decodeURIComponent(values[i] ?? '')]))
  const body = form.body === undefined ? undefined : JSON.parse(form.body)
  return checkInput(operation, fromRestForm(operation, { path, query: url.searchParams, body }))
}

describe.each(operations)('$title', ({ port, name, operation }) => {
  test('decodes any valid input the same by REST and by SOAP', () => {
    fc.assert(
      fc.property(arbitraryOf(schemaOf(operation.input)), (input) => {
        expect(throughRest(port, operation, input)).toEqual(input)
        expect(throughSoap(port, name, operation, input)).toEqual(input)
      }),
      { numRuns: 60, endOnFailure: true },
    )
  })
})

test('a damaged message is read or refused as bad input, and nothing else happens', () => {
  const shards = [
    '<',
    '>',
    '</x>',
    '&',
    '&#0;',
    ']]>',
    '<![CDATA[',
    '<!--',
    '"',
    ' a="1"',
    'xmlns=""',
    'xsi:nil="1"',
    '\0',
    '<a/>',
    '',
  ]
  const damage = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    remove: fc.nat(20),
    insert: fc.oneof(fc.constantFrom(...shards), fc.string({ maxLength: 5 })),
  })
  const cases = fc.constantFrom(...operations).chain((one) =>
    fc.record({
      one: fc.constant(one),
      input: arbitraryOf(schemaOf(one.operation.input)),
      damages: fc.array(damage),
    }),
  )
  fc.assert(
    fc.property(cases, ({ one: { port, name, operation }, input, damages }) => {
      let message = encodeEnvelope('1.1', encodeRoot(schemaOf(operation.input), name, port.namespace, input))
      for (const { at, remove, insert } of damages) {
        const start = Math.floor(at * message.length)
        message = message.slice(0, start) + insert + message.slice(start + remove)
      }
      try {
        checkInput(operation, decodeRoot(schemaOf(operation.input), decodeEnvelope(message).body))
      } catch (error) {
        if (error instanceof XmlError || error instanceof SoapError) return
        if (error instanceof Failure && error.code === 'bad-input') return
        throw error
      }
    }),
    { numRuns: 200, endOnFailure: true },
  )
})

test.each(ports.map((port) => ({ port, title: port.name })))(
  'messages of the $title port fit the XML Schema that its WSDL gives',
  ({ port }) => {
    using schema = XmlDocument.fromString(xsdOf(port))
    using validator = XsdValidator.fromDoc(schema)
    for (const [name, operation] of Object.entries(port.operations)) {
      const messages = [
        { root: name, type: schemaOf(operation.input) },
        { root: `${name}Response`, type: schemaOf(operation.output) },
      ]
      for (const { root, type } of messages) {
        fc.assert(
          fc.property(arbitraryOf(type), (value) => {
            using document = XmlDocument.fromString(encodeRoot(type, root, port.namespace, value).toString())
            validator.validate(document)
          }),
          { numRuns: 20, endOnFailure: true },
        )
      }
    }
  },
)

const type = Type.Object({
  name: Type.String({ title: 'Word', pattern: '^[a-z]+$' }),
  count: Type.Optional(Type.Integer({ minimum: 1, maximum: 5 })),
  flag: Type.Optional(Type.Boolean()),
  share: Type.Optional(Type.Number()),
  at: Type.Optional(Type.String({ format: 'date-time' })),
  disks: Type.Optional(Type.Array(Type.Object({ path: Type.String() }, { title: 'Disk' }), { maxItems: 2 })),
  tags: Type.Array(Type.String()),
})
const operation: Operation = {
  summary: '',
  access: 'admin',
  rest: { method: 'POST', path: '/x' },
  input: type,
  output: Type.Object({}),
  failures: [],
}

function decoded(inside: string): unknown {
  const { body } = decodeEnvelope(
    `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><x xmlns="urn:t" xmlns:o="urn:o" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">${inside}</x></e:Body></e:Envelope>`,
  )
  return checkInput(operation, decodeRoot(schemaOf(type), body))
}

function refused(inside: string): { at: string | undefined; message: string } {
  try {
    decoded(inside)
  } catch (error) {
    if (error instanceof Failure && error.code === 'bad-input') return { at: error.at, message: error.message }
    throw error
  }
  throw new Error('it was accepted')
}

test('fields are read in any order, in the notations of XML Schema', () => {
  expect(
    decoded('<at>2026-11-22T17:00:00</at><flag> 1 </flag><share>1e3</share><name>abc</name><count> +3\n</count>'),
  ).toEqual({
    at: '2026-11-22T17:00:00Z',
    flag: true,
    share: 1000,
    name: 'abc',
    count: 3,
    tags: [],
  })
})

test('lists are repeated elements; a nil one is an optional list that is given and empty', () => {
  expect(decoded('<name>a</name><tags>x</tags><tags></tags><disks><path>/dev/sda</path></disks>')).toEqual({
    name: 'a',
    tags: ['x', ''],
    disks: [{ path: '/dev/sda' }],
  })
  expect(decoded('<name>a</name><disks xsi:nil="true"/>')).toEqual({ name: 'a', tags: [], disks: [] })
  const written = encodeRoot(schemaOf(type), 'x', 'urn:t', { name: 'a', tags: [], disks: [] }).toString()
  expect(written).toBe(
    '<x xmlns="urn:t"><name>a</name><disks xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/></x>',
  )
})

test('what does not fit is refused with the path of the field', () => {
  expect(refused('').message).toBe('`name` is missing; it must be text')
  expect(refused('<name>a</name><nmae>b</nmae>')).toMatchObject({
    at: 'nmae',
    message: expect.stringContaining('no field'),
  })
  expect(refused('<name>a</name><__proto__>b</__proto__>').at).toBe('__proto__')
  expect(refused('<name>a</name><name>b</name>').message).toBe('`name` is a list; it must be text')
  expect(refused('<name>a</name><count>x</count>').message).toBe('`count` is the text "x"; it must be a whole number')
  expect(refused('<name>a</name><count></count>').message).toBe('`count` is the text ""; it must be a whole number')
  expect(refused('<name>a</name><count>9007199254740993</count>').at).toBe('count')
  expect(refused('<name>a</name><share>INF</share>').at).toBe('share')
  expect(refused('<name>a</name><flag>yes</flag>').at).toBe('flag')
  expect(refused('<name><b/></name>').message).toBe('`name` is an object; it must be text')
  expect(refused('<name xsi:nil="true"/>').message).toBe('`name` is null; it must be text')
  expect(refused('<name>a</name><disks>x</disks>').at).toBe('disks[0]')
  expect(refused('<name>a</name><disks><path>x</path></disks><disks><path>y</path><b/></disks>').at).toBe('disks[1].b')
  expect(refused('<name>a</name><disks path="x"/>').message).toBe(
    '`disks[0]` has the attribute "path"; fields are elements',
  )
  expect(refused('<o:name>a</o:name>').message).toBe('`name` is in the namespace "urn:o"; it must be in "urn:t"')
  expect(refused('<name>a</name>stray').message).toBe(
    'the input is the text "astray"; it must be an object'.replace('astray', 'stray'),
  )
})

test('times are written in UTC, for readers who know no zones', () => {
  const value = { name: 'a', tags: [], at: '2026-11-22t18:00:00.5+01:00' }
  expect(encodeRoot(schemaOf(type), 'x', 'urn:t', value).toString()).toContain('<at>2026-11-22T17:00:00.500Z</at>')
})

test('types with a title get a name, and two types may not share one', () => {
  const xsd = writeXsd('urn:t', [{ name: 'x', schema: schemaOf(type) }]).toString()
  expect(xsd).toContain('<xs:complexType name="Disk">')
  expect(xsd).toContain('<xs:element name="disks" type="tns:Disk" minOccurs="0" maxOccurs="unbounded" nillable="true">')
  expect(xsd).toContain('<xs:simpleType name="Word"><xs:restriction base="xs:string"><xs:pattern value="[a-z]+"/>')
  const root = { name: 'y', schema: schemaOf(Type.Object({}, { title: 'Empty' })) }
  expect(writeXsd('urn:t', [root]).toString()).toContain('<xs:element name="y" type="tns:Empty"/>')
  const other = Type.Object({ word: Type.String({ title: 'Word' }) })
  const roots = [type, other].map((schema, i) => ({ name: `x${i}`, schema: schemaOf(schema) }))
  expect(() => writeXsd('urn:t', roots)).toThrow('two types called Word')
})

test('patterns are said in XML Schema where it can say them', () => {
  expect(xsdPattern('^\\d{1,3}(\\.\\d{1,3}){3}$')).toBe('[0-9]{1,3}(\\.[0-9]{1,3}){3}')
  expect(xsdPattern('^(?:a|b)$')).toBe('(a|b)')
  for (const beyond of ['a', '^a', '^a|b$', '^a+?$', '^(?=a)$', '^\\bx$'])
    expect(xsdPattern(beyond), beyond).toBeUndefined()
})
