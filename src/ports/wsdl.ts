// WSDL 1.1 of a port: document/literal wrapped, with a SOAP 1.1 and a SOAP 1.2 binding at the same address. And one
// document over all ports. Each port keeps a namespace of its own, because generators merge the bindings of one.
import { failureBody } from '../contract/failure-body.ts'
import { idempotencyKey, type Port } from '../contract/operation.ts'
import { type Schema, schemaOf } from '../lib/schema.ts'
import { type Markup, xml } from '../lib/xml.ts'
import { type RootElement, writeXsd } from './schema-xml.ts'

const soapVersions = [
  { name: 'Soap11', namespace: 'http://schemas.xmlsoap.org/wsdl/soap/' },
  { name: 'Soap12', namespace: 'http://schemas.xmlsoap.org/wsdl/soap12/' },
] as const

const transport = 'http://schemas.xmlsoap.org/soap/http'
const declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'

/** Name of the element in the detail of a fault: its content is `failureBody`. */
export const failureElement = 'failure'

/** The elements of a port's messages: request, response, and the failure. */
export function rootElements(port: Port): RootElement[] {
  return [
    ...Object.entries(port.operations).flatMap(([name, operation]) => [
      { name, schema: schemaOf(operation.input) },
      { name: `${name}Response`, schema: schemaOf(operation.output) },
    ]),
    { name: failureElement, schema: schemaOf(failureBody) },
    ...(takesKeys(port) ? [{ name: idempotencyKey.block, schema: keySchema }] : []),
  ]
}

/** An idempotency key as XML Schema has it: `!` to `~`, written so that every reader of patterns takes it. */
const keySchema: Schema = { type: 'string', minLength: 1, maxLength: 190, description: idempotencyKey.description }

function takesKeys(port: Port): boolean {
  return Object.values(port.operations).some(({ once }) => once !== undefined)
}

/** The XML Schema of a port's messages as a document. */
export function xsdOf(port: Port): string {
  return declaration + writeXsd(port.namespace, rootElements(port)).toString()
}

/** The WSDL of a port served at `address`, an absolute URL. */
export function wsdlOf(port: Port, address: string): string {
  const names = Object.keys(port.operations)
  const service = serviceName(port)
  const ports = soapVersions.map(
    ({ name }) =>
      xml`<wsdl:port name="${service}${name}" binding="tns:${service}${name}"><${name}:address location="${address}"/></wsdl:port>`,
  )
  return (
    declaration +
    xml`<wsdl:definitions name="${service}" targetNamespace="${port.namespace}" xmlns:tns="${port.namespace}" ${namespaces}>
<wsdl:documentation>${port.summary}</wsdl:documentation>
<wsdl:types>${writeXsd(port.namespace, rootElements(port))}</wsdl:types>
${names.map(messages)}${takesKeys(port) ? keyMessage : undefined}<wsdl:message name="${failureElement}"><wsdl:part name="${failureElement}" element="tns:${failureElement}"/></wsdl:message>
<wsdl:portType name="${service}">${names.map((name) => portTypeOperation(port, name))}</wsdl:portType>
${soapVersions.map(({ name }) => binding(port, name))}<wsdl:service name="${service}"><wsdl:documentation>${port.summary}</wsdl:documentation>${ports}</wsdl:service>
</wsdl:definitions>
`.toString()
  )
}

/** One WSDL over several ports under `base`, an absolute URL without a slash at its end: it imports theirs. */
export function combinedWsdl(ports: readonly Port[], base: string): string {
  const prefixes = ports.map((port) => xml` xmlns:${port.name}="${port.namespace}"`)
  const imports = ports.map(
    (port) => xml`<wsdl:import namespace="${port.namespace}" location="${base}/${port.name}?wsdl"/>\n`,
  )
  const bound = ports.flatMap((port) =>
    soapVersions.map(({ name }) => {
      const binding = `${serviceName(port)}${name}`
      return xml`<wsdl:port name="${binding}" binding="${port.name}:${binding}"><${name}:address location="${base}/${port.name}"/></wsdl:port>\n`
    }),
  )
  return (
    declaration +
    xml`<wsdl:definitions name="Hades" targetNamespace="urn:hades:1"${prefixes} ${namespaces}>
${imports}<wsdl:service name="Hades">
${bound}</wsdl:service>
</wsdl:definitions>
`.toString()
  )
}

const namespaces: Markup = xml`xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/"${soapVersions.map(({ name, namespace }) => xml` xmlns:${name}="${namespace}"`)}`

function serviceName({ name }: Port): string {
  return `${name.charAt(0).toUpperCase()}${name.slice(1)}Port`
}

const keyMessage = xml`<wsdl:message name="${idempotencyKey.block}"><wsdl:part name="${idempotencyKey.block}" element="tns:${idempotencyKey.block}"/></wsdl:message>
`

function messages(name: string): Markup {
  return xml`<wsdl:message name="${name}"><wsdl:part name="parameters" element="tns:${name}"/></wsdl:message>
<wsdl:message name="${name}Response"><wsdl:part name="parameters" element="tns:${name}Response"/></wsdl:message>
`
}

function portTypeOperation(port: Port, name: string): Markup {
  return xml`
<wsdl:operation name="${name}"><wsdl:documentation>${port.operations[name]?.summary}</wsdl:documentation><wsdl:input message="tns:${name}"/><wsdl:output message="tns:${name}Response"/><wsdl:fault name="${failureElement}" message="tns:${failureElement}"/></wsdl:operation>`
}

function binding(port: Port, version: (typeof soapVersions)[number]['name']): Markup {
  const service = serviceName(port)
  const key = xml`<${version}:header message="tns:${idempotencyKey.block}" part="${idempotencyKey.block}" use="literal"/>`
  const operations = Object.entries(port.operations).map(
    ([name, { once }]) => xml`
<wsdl:operation name="${name}"><${version}:operation soapAction="${port.namespace}#${name}" style="document"/><wsdl:input><${version}:body use="literal"/>${once && key}</wsdl:input><wsdl:output><${version}:body use="literal"/></wsdl:output><wsdl:fault name="${failureElement}"><${version}:fault name="${failureElement}" use="literal"/></wsdl:fault></wsdl:operation>`,
  )
  return xml`<wsdl:binding name="${service}${version}" type="tns:${service}"><${version}:binding style="document" transport="${transport}"/>${operations}</wsdl:binding>
`
}
