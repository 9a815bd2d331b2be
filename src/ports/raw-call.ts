// A caller for tests that sends whatever it is given, right or wrong, by REST or by SOAP 1.1 or 1.2, and reads the answer by
// the contract. The real client checks too much for that.
import { type FailureBody, failureBody } from '../contract/failure-body.ts'
import { idempotencyKey, type Operation, type Port } from '../contract/operation.ts'
import { asText, pathFields, toRestForm } from '../contract/rest-form.ts'
import { schemaOf } from '../lib/schema.ts'
import { escapeXmlText } from '../lib/xml.ts'
import { decodeEnvelope, decodeFault, soapMediaTypes, soapNamespaces } from '../protocol/soap.ts'
import { decodeRoot } from './schema-xml.ts'

export const faces = ['rest', '1.1', '1.2'] as const
export type FaceName = (typeof faces)[number]

export type RawCall = {
  readonly baseUrl: string
  readonly face: FaceName
  readonly port: Port
  readonly name: string
  readonly input: unknown
  readonly token?: string | undefined
  readonly key?: string | undefined
  /** By REST, instead of the input as JSON. */
  readonly body?: string | undefined
  readonly deadlineMs: number
}

/** `text` is the whole answer, of which `output` or `failure` was read. */
export type RawAnswer = {
  readonly status: number
  readonly text: string
  readonly output?: unknown
  readonly failure?: FailureBody
}

/** Throws when there is no answer within the deadline, or one that neither face gives. */
export async function rawCall(call: RawCall): Promise<RawAnswer> {
  const { baseUrl, face, port, name, token, key, deadlineMs } = call
  const operation: Operation | undefined = port.operations[name]
  if (operation === undefined) throw new Error(`the port has no ${name}`)
  const { path, method, body, type } = face === 'rest' ? restMessage(call, operation) : soapMessage(call, face)
  const response = await fetch(baseUrl + path, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': type }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(key === undefined ? {} : { [idempotencyKey.header]: key }),
    },
    ...(body === undefined ? {} : { body }),
    signal: AbortSignal.timeout(deadlineMs),
  })
  const { status } = response
  const text = await response.text()
  if (face !== 'rest') return { status, text, ...readEnvelope(text, face, operation) }
  return status < 400
    ? { status, text, output: JSON.parse(text) }
    : { status, text, failure: JSON.parse(text) as FailureBody }
}

type Message = {
  readonly path: string
  readonly method: string
  readonly body: string | undefined
  readonly type: string
}

function restMessage({ port, input, body }: RawCall, operation: Operation): Message {
  const fields = { ...(input as Readonly<Record<string, unknown>>) }
  // A path is always there: what is missing from it is empty, and half a character is none.
  for (const field of pathFields(operation)) fields[field] = asText(fields[field] ?? '').toWellFormed()
  const form = toRestForm(port, operation, fields)
  return { ...form, body: form.body === undefined ? undefined : (body ?? form.body), type: 'application/json' }
}

function soapMessage({ port, name, input }: RawCall, version: '1.1' | '1.2'): Message {
  const inside = looseFields(input)
  const body = `<e:Envelope xmlns:e="${soapNamespaces[version]}"><e:Body><${name} xmlns="${port.namespace}">${inside}</${name}></e:Body></e:Envelope>`
  return { path: `/${port.name}`, method: 'POST', body, type: `${soapMediaTypes[version]}; charset=utf-8` }
}

/** Any value as elements, also where the schema has others; control characters as references, which XML does not allow. */
function looseFields(value: unknown): string {
  if (typeof value !== 'object' || value === null) return looseText(value)
  return Object.entries(value)
    .flatMap(([name, field]) => [field].flat().map((item: unknown) => looseElement(name, item)))
    .join('')
}

function looseElement(name: string, value: unknown): string {
  if (value === null) return `<${name} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/>`
  return `<${name}>${looseFields(value)}</${name}>`
}

function looseText(value: unknown): string {
  const text = typeof value === 'string' ? value.toWellFormed() : (JSON.stringify(value) ?? '')
  const isControl = (unit: string) => unit < ' ' && !'\t\n\r'.includes(unit)
  return Array.from(text, (unit) => (isControl(unit) ? `&#${unit.charCodeAt(0)};` : escapeXmlText(unit))).join('')
}

function readEnvelope(text: string, face: '1.1' | '1.2', { output }: Operation): Pick<RawAnswer, 'output' | 'failure'> {
  const lengthMax = 64 * 1024 * 1024
  const { version, body } = decodeEnvelope(text, { limits: { lengthMax, elementsMax: 1_000_000 } })
  if (version !== face) throw new Error(`SOAP ${face} was answered in SOAP ${version}`)
  const fault = decodeFault(body)
  if (fault === undefined) return { output: decodeRoot(schemaOf(output), body) }
  if (fault.detail === undefined) throw new Error(`a fault without detail: ${fault.reason}`)
  return { failure: decodeRoot(schemaOf(failureBody), fault.detail) as FailureBody }
}
