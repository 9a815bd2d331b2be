import { expect, test } from 'vitest'
import { parseXml, xml } from '../lib/xml.ts'
import {
  decodeEnvelope,
  decodeFault,
  encodeEnvelope,
  encodeFault,
  SoapError,
  type SoapVersion,
  soapNamespaces,
} from './soap.ts'

const versions: readonly SoapVersion[] = ['1.1', '1.2']

function envelope(version: SoapVersion, inside: string): string {
  return `<e:Envelope xmlns:e="${soapNamespaces[version]}">${inside}</e:Envelope>`
}

function refusal(text: string, assumed?: SoapVersion): SoapError {
  try {
    decodeEnvelope(text, assumed ? { assumed } : {})
  } catch (error) {
    if (error instanceof SoapError) return error
    throw error
  }
  throw new Error('it was accepted')
}

test.each(versions)('an envelope of SOAP %s comes back with its version and its one body element', (version) => {
  const text = encodeEnvelope(version, xml`<a xmlns="urn:a">${'<x>'}</a>`)
  expect(decodeEnvelope(text)).toMatchObject({ version, body: { name: 'a', namespace: 'urn:a', text: '<x>' } })
})

test.each(versions)('a fault of SOAP %s keeps code, reason and detail', (version) => {
  const fault = {
    kind: 'sender',
    reason: 'a < b',
    subcode: { namespace: 'urn:f', name: 'bad' },
    detail: xml`<f xmlns="urn:f"/>`,
  } as const
  const read = decodeFault(decodeEnvelope(encodeFault(version, fault)).body)
  expect(read).toMatchObject({
    code: version === '1.1' ? 'Client' : 'Sender',
    subcode: version === '1.1' ? undefined : 'bad',
    reason: 'a < b',
    detail: { name: 'f', namespace: 'urn:f' },
  })
})

test.each(versions)(
  'what is no envelope, or has no single body element, is the fault of the sender in %s',
  (version) => {
    const wrong = ['', '<e:Body/>', '<e:Body><a/><b/></e:Body>', '<a/><e:Body><a/></e:Body>', '<Body><a/></Body>']
    for (const inside of wrong)
      expect(refusal(envelope(version, inside)), inside).toMatchObject({ version, kind: 'sender' })
    expect(refusal('<html/>', version)).toMatchObject({ version, kind: 'sender' })
  },
)

test('an envelope of another version is a mismatch, and the answer names the versions there are', () => {
  const error = refusal('<Envelope xmlns="http://www.w3.org/2001/09/soap-envelope"><Body><a/></Body></Envelope>', '1.2')
  expect(error).toMatchObject({ version: '1.2', kind: 'version-mismatch' })
  const answer = parseXml(encodeFault('1.2', { kind: error.kind, reason: error.message }))
  expect(answer.children[0]?.children[0]?.children.map((supported) => supported.name)).toEqual([
    'SupportedEnvelope',
    'SupportedEnvelope',
  ])
})

test('header blocks that must be understood are refused by name when they are meant for the last receiver', () => {
  const body = '<e:Body><a/></e:Body>'
  const block = (attributes: string) => `<e:Header><h:sec xmlns:h="urn:h" ${attributes}/></e:Header>${body}`
  expect(refusal(envelope('1.1', block('e:mustUnderstand="1"')))).toMatchObject({ kind: 'must-understand' })
  const error = refusal(envelope('1.2', block('e:mustUnderstand="true"')))
  expect(error.notUnderstood).toMatchObject([{ namespace: 'urn:h', name: 'sec' }])
  const answer = encodeFault('1.2', { kind: error.kind, reason: error.message, notUnderstood: error.notUnderstood })
  expect(answer).toContain('<soap:NotUnderstood xmlns:h="urn:h" qname="h:sec"/>')
  for (const harmless of [
    '',
    'e:mustUnderstand="0"',
    'mustUnderstand="1"',
    'e:mustUnderstand="1" e:actor="urn:someone"',
  ]) {
    expect(decodeEnvelope(envelope('1.1', block(harmless))).body.name).toBe('a')
  }
})
