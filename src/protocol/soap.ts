// SOAP envelopes, 1.1 (W3C note of 8 May 2000) and 1.2 (W3C recommendation, part 1): what a message says, and faults. It
// knows neither HTTP nor what the body means.
import { attributeOf, childOf, type Markup, parseXml, type XmlElement, type XmlLimits, xml } from '../lib/xml.ts'

export type SoapVersion = '1.1' | '1.2'

export const soapNamespaces = {
  '1.1': 'http://schemas.xmlsoap.org/soap/envelope/',
  '1.2': 'http://www.w3.org/2003/05/soap-envelope',
} as const

/** Media type of a message, without parameters. */
export const soapMediaTypes = { '1.1': 'text/xml', '1.2': 'application/soap+xml' } as const

export type FaultKind = 'sender' | 'receiver' | 'version-mismatch' | 'must-understand'

type QualifiedName = { readonly namespace: string; readonly name: string }

/** A message that cannot be processed as SOAP asks. `version` is the one to answer in. */
export class SoapError extends Error {
  readonly version: SoapVersion
  readonly kind: FaultKind
  /** The header blocks that had to be understood and are not. */
  readonly notUnderstood: readonly QualifiedName[]

  constructor(version: SoapVersion, kind: FaultKind, message: string, notUnderstood: readonly QualifiedName[] = []) {
    super(message)
    this.name = 'SoapError'
    this.version = version
    this.kind = kind
    this.notUnderstood = notUnderstood
  }
}

/**
 * Reads a message and returns the one element of its body. Throws XmlError when the text is not plain XML, SoapError when
 * it is no envelope, of another version, without exactly one body element, or has a header block that must be understood
 * and is not `understood`; those that are come back as `headers`. `assumed` is the version to answer in when the message
 * does not say.
 */
export function decodeEnvelope(
  text: string,
  options: {
    readonly assumed?: SoapVersion
    readonly limits?: Partial<XmlLimits>
    readonly understood?: QualifiedName
  } = {},
): { version: SoapVersion; body: XmlElement; headers: XmlElement[] } {
  const root = parseXml(text, options.limits)
  const version = versionOf(root, options.assumed ?? '1.1')
  const [first, second] = root.children
  const header = first?.name === 'Header' && first.namespace === root.namespace ? first : undefined
  const body = header ? second : first
  if (body?.name !== 'Body' || body.namespace !== root.namespace) {
    throw new SoapError(version, 'sender', 'the envelope has no Body, or it does not stand where it must')
  }
  const isUnderstood = ({ namespace, name }: XmlElement): boolean =>
    namespace === options.understood?.namespace && name === options.understood.name
  const blocks = header?.children ?? []
  refuseUnderstanding(
    version,
    blocks.filter((block) => !isUnderstood(block)),
  )
  const [content, ...more] = body.children
  if (content === undefined || more.length > 0) {
    throw new SoapError(version, 'sender', `the body has ${body.children.length} elements, not one`)
  }
  return { version, body: content, headers: blocks.filter(isUnderstood) }
}

function versionOf(root: XmlElement, assumed: SoapVersion): SoapVersion {
  if (root.name !== 'Envelope') {
    throw new SoapError(assumed, 'sender', `the document is not a SOAP envelope but \`${root.name.slice(0, 60)}\``)
  }
  if (root.namespace === soapNamespaces['1.1']) return '1.1'
  if (root.namespace === soapNamespaces['1.2']) return '1.2'
  throw new SoapError(assumed, 'version-mismatch', 'the envelope is neither of SOAP 1.1 nor of SOAP 1.2')
}

/** Roles a header block may be meant for; this node is the last one on the way. */
const ourRoles: readonly (string | undefined)[] = [
  undefined,
  '',
  'http://schemas.xmlsoap.org/soap/actor/next',
  'http://www.w3.org/2003/05/soap-envelope/role/next',
  'http://www.w3.org/2003/05/soap-envelope/role/ultimateReceiver',
]

function refuseUnderstanding(version: SoapVersion, others: readonly XmlElement[]): void {
  const namespace = soapNamespaces[version]
  const blocks = others.filter((block) => {
    const role = attributeOf(block, version === '1.1' ? 'actor' : 'role', namespace)
    const must = attributeOf(block, 'mustUnderstand', namespace)?.trim()
    return (must === '1' || must === 'true') && ourRoles.includes(role)
  })
  if (blocks.length === 0) return
  const names = blocks.map((block) => `{${block.namespace}}${block.name}`).join(', ')
  throw new SoapError(
    version,
    'must-understand',
    `header blocks that are not understood: ${names.slice(0, 400)}`,
    blocks,
  )
}

const declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'

/** Writes a message around one body element. */
export function encodeEnvelope(version: SoapVersion, body: Markup, header?: Markup): string {
  const namespace = soapNamespaces[version]
  const before = header === undefined ? undefined : xml`<soap:Header>${header}</soap:Header>`
  const envelope = xml`<soap:Envelope xmlns:soap="${namespace}">${before}<soap:Body>${body}</soap:Body></soap:Envelope>`
  return declaration + envelope.toString()
}

export type Fault = {
  readonly kind: FaultKind
  /** One sentence in English. */
  readonly reason: string
  /** Narrows the code down; SOAP 1.1 has no place for it. */
  readonly subcode?: QualifiedName
  /** One element that says more, in a namespace of its own. */
  readonly detail?: Markup
  readonly notUnderstood?: readonly QualifiedName[]
}

const faultCodes = {
  '1.1': {
    sender: 'Client',
    receiver: 'Server',
    'version-mismatch': 'VersionMismatch',
    'must-understand': 'MustUnderstand',
  },
  '1.2': {
    sender: 'Sender',
    receiver: 'Receiver',
    'version-mismatch': 'VersionMismatch',
    'must-understand': 'MustUnderstand',
  },
} as const

/** Writes a message that carries a fault, with the headers that SOAP 1.2 (part 1, 5.4.7 and 5.4.8) asks for. */
export function encodeFault(version: SoapVersion, { kind, reason, subcode, detail, notUnderstood }: Fault): string {
  const code = faultCodes[version][kind]
  if (version === '1.1') {
    const more = detail === undefined ? undefined : xml`<detail>${detail}</detail>`
    return encodeEnvelope(
      version,
      xml`<soap:Fault><faultcode>soap:${code}</faultcode><faultstring>${reason}</faultstring>${more}</soap:Fault>`,
    )
  }
  const narrower =
    subcode === undefined
      ? undefined
      : xml`<soap:Subcode><soap:Value xmlns:sub="${subcode.namespace}">sub:${subcode.name}</soap:Value></soap:Subcode>`
  const more = detail === undefined ? undefined : xml`<soap:Detail>${detail}</soap:Detail>`
  const fault = xml`<soap:Fault><soap:Code><soap:Value>soap:${code}</soap:Value>${narrower}</soap:Code><soap:Reason><soap:Text xml:lang="en">${reason}</soap:Text></soap:Reason>${more}</soap:Fault>`
  return encodeEnvelope(version, fault, faultHeader(kind, notUnderstood ?? []))
}

function faultHeader(kind: FaultKind, notUnderstood: readonly QualifiedName[]): Markup | undefined {
  if (kind === 'version-mismatch') {
    const supported = (['1.2', '1.1'] as const).map(
      (version) => xml`<soap:SupportedEnvelope xmlns:v="${soapNamespaces[version]}" qname="v:Envelope"/>`,
    )
    return xml`<soap:Upgrade>${supported}</soap:Upgrade>`
  }
  if (notUnderstood.length === 0) return undefined
  return xml`${notUnderstood.map(({ namespace, name }) =>
    namespace === ''
      ? xml`<soap:NotUnderstood qname="${name}"/>`
      : xml`<soap:NotUnderstood xmlns:h="${namespace}" qname="h:${name}"/>`,
  )}`
}

/** Reads the fault that a body element is, or `undefined` if it is none. `code` is without prefix. */
export function decodeFault(
  body: XmlElement,
): { code: string; subcode: string | undefined; reason: string; detail: XmlElement | undefined } | undefined {
  if (body.name !== 'Fault') return undefined
  const local = (text: string | undefined): string => text?.trim().replace(/^.*:/, '') ?? ''
  if (body.namespace === soapNamespaces['1.1']) {
    return {
      code: local(childOf(body, 'faultcode', '')?.text),
      subcode: undefined,
      reason: childOf(body, 'faultstring', '')?.text ?? '',
      detail: childOf(body, 'detail', '')?.children[0],
    }
  }
  if (body.namespace !== soapNamespaces['1.2']) return undefined
  const code = childOf(body, 'Code')
  const inner = code && childOf(code, 'Subcode')
  const reason = childOf(body, 'Reason')
  return {
    code: local(code && childOf(code, 'Value')?.text),
    subcode: inner && local(childOf(inner, 'Value')?.text),
    reason: (reason && childOf(reason, 'Text')?.text) ?? '',
    detail: childOf(body, 'Detail')?.children[0],
  }
}
