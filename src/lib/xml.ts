// XML 1.0 for protocols: a strict parser to a small tree, and a template that escapes. Namespaces in XML 1.0 are
// resolved. Document types, and with them entities and external references, and processing instructions are refused:
// no protocol needs them, and most attacks on XML do. Every dimension of a document has a limit.
import { SaxesParser } from 'saxes'

export type XmlAttribute = {
  /** Without prefix. */
  readonly name: string
  /** Empty for an attribute without prefix. */
  readonly namespace: string
  readonly value: string
}

export type XmlElement = {
  /** Without prefix. */
  readonly name: string
  /** Empty where no namespace is declared. */
  readonly namespace: string
  /** In document order; namespace declarations are not among them. */
  readonly attributes: readonly XmlAttribute[]
  /** Child elements in document order. */
  readonly children: readonly XmlElement[]
  /** The character data directly inside, joined: entities and CDATA resolved, line ends as LF. */
  readonly text: string
  /** Where the start tag ends, both counted from 1. */
  readonly line: number
  readonly column: number
}

/** What is wrong with a document, and where. `message` begins with the place. */
export class XmlError extends Error {
  readonly line: number
  readonly column: number

  constructor(line: number, column: number, sentence: string) {
    super(`line ${line}, column ${column}: ${sentence}`)
    this.name = 'XmlError'
    this.line = line
    this.column = column
  }
}

export type XmlLimits = {
  /** UTF-16 units of the whole document. */
  readonly lengthMax: number
  readonly depthMax: number
  /** Of one element, namespace declarations included. */
  readonly attributesMax: number
  /** In the whole document. */
  readonly elementsMax: number
  /** UTF-16 units of one element or attribute name. */
  readonly nameLengthMax: number
}

/** Wide enough for any message of ours (an inventory is the largest), narrow enough that parsing stays linear. */
export const defaultXmlLimits: XmlLimits = {
  lengthMax: 1024 * 1024,
  depthMax: 32,
  attributesMax: 64,
  elementsMax: 100_000,
  nameLengthMax: 200,
}

/** One line of a message: a hostile document must not write a long or forged one into a log. */
const quotedLengthMax = 60

type Building = {
  name: string
  namespace: string
  attributes: XmlAttribute[]
  children: Building[]
  text: string
  line: number
  column: number
}

/** Parses a document and returns its root. Throws XmlError on anything that is not plain, well-formed XML 1.0. */
export function parseXml(text: string, limits: Partial<XmlLimits> = {}): XmlElement {
  const { lengthMax, depthMax, attributesMax, elementsMax, nameLengthMax } = { ...defaultXmlLimits, ...limits }
  if (text.length > lengthMax) throw new XmlError(1, 1, `the document is longer than ${lengthMax} characters`)
  const parser = new SaxesParser({ xmlns: true, defaultXMLVersion: '1.0', forceXMLVersion: true })
  const refuse = (sentence: string): never => {
    throw new XmlError(parser.line, parser.columnIndex + 1, sentence)
  }
  const open: Building[] = []
  let root: Building | undefined
  let elements = 0
  let attributes = 0

  parser.on('xmldecl', ({ version, encoding }) => {
    if (version !== undefined && version !== '1.0') refuse(`XML ${quoted(version)} is not understood, only XML 1.0`)
    if (encoding !== undefined && !/^(utf-?8|us-ascii)$/i.test(encoding)) {
      refuse(`the encoding ${quoted(encoding)} is not understood, only UTF-8`)
    }
  })
  parser.on('doctype', () => refuse('a document type (DOCTYPE) is not allowed, and with it no entities: remove it'))
  parser.on('processinginstruction', ({ target }) =>
    refuse(`the processing instruction ${quoted(target)} is not allowed: remove it`),
  )
  parser.on('error', (error) => refuse(`this is not well-formed XML: ${shortened(error.message)}`))
  // The limits act while a tag is still being read, because resolving its namespaces is what costs.
  parser.on('opentagstart', ({ name }) => {
    attributes = 0
    elements += 1
    if (name.length > nameLengthMax) refuse(`the name ${quoted(name)} is longer than ${nameLengthMax} characters`)
    if (open.length >= depthMax) refuse(`elements are nested deeper than ${depthMax}`)
    if (elements > elementsMax) refuse(`there are more than ${elementsMax} elements`)
  })
  parser.on('attribute', ({ name }) => {
    attributes += 1
    if (name.length > nameLengthMax) refuse(`the name ${quoted(name)} is longer than ${nameLengthMax} characters`)
    if (attributes > attributesMax) refuse(`one element has more than ${attributesMax} attributes`)
  })
  parser.on('opentag', (tag) => {
    const element: Building = {
      name: tag.local,
      namespace: tag.uri,
      attributes: Object.values(tag.attributes)
        .filter((attribute) => attribute.uri !== 'http://www.w3.org/2000/xmlns/')
        .map((attribute) => ({ name: attribute.local, namespace: attribute.uri, value: attribute.value })),
      children: [],
      text: '',
      line: parser.line,
      column: parser.columnIndex + 1,
    }
    const parent = open.at(-1)
    if (parent) parent.children.push(element)
    else root = element
    open.push(element)
  })
  parser.on('closetag', () => {
    open.pop()
  })
  const characters = (data: string): void => {
    const element = open.at(-1)
    if (element) element.text += data
  }
  parser.on('text', characters)
  parser.on('cdata', characters)
  parser.write(text).close()
  return root ?? refuse('there is no root element')
}

/** The child elements called `name`, in the namespace of `element` unless another is given. */
export function childrenOf(element: XmlElement, name: string, namespace: string = element.namespace): XmlElement[] {
  return element.children.filter((child) => child.name === name && child.namespace === namespace)
}

/** The first child element called `name`, in the namespace of `element` unless another is given. */
export function childOf(element: XmlElement, name: string, namespace?: string): XmlElement | undefined {
  return childrenOf(element, name, namespace)[0]
}

/** The value of an attribute; without `namespace`, of the one that has no prefix. */
export function attributeOf(element: XmlElement, name: string, namespace = ''): string | undefined {
  return element.attributes.find((attribute) => attribute.name === name && attribute.namespace === namespace)?.value
}

function quoted(text: string): string {
  return JSON.stringify(text.length > quotedLengthMax ? `${text.slice(0, quotedLengthMax)}…` : text)
}

/** The parser's own sentence without its place, which our error gives, on one line. */
function shortened(sentence: string): string {
  const plain = sentence.replace(/^\d+:\d+: /, '').replace(/[^ -~]/g, '?')
  return plain.length > 200 ? `${plain.slice(0, 200)}…` : plain.replace(/\.$/, '')
}

/** Text that is XML already: made by the `xml` template, or by a writer that escapes by itself for speed. */
export class Markup {
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  toString(): string {
    return this.#text
  }
}

type Inserted = string | number | boolean | Markup | undefined | readonly Inserted[]

/**
 * Template that writes XML: strings are escaped for where they stand (directly after `="` as an attribute's value,
 * elsewhere as text), Markup is inserted as it is, lists are joined, and `undefined` leaves nothing.
 */
export function xml(parts: TemplateStringsArray, ...values: readonly Inserted[]): Markup {
  let text = parts[0] ?? ''
  values.forEach((value, i) => {
    text += inserted(value, (parts[i] ?? '').endsWith('="')) + (parts[i + 1] ?? '')
  })
  return new Markup(text)
}

function inserted(value: Inserted, inAttribute: boolean): string {
  if (value === undefined) return ''
  if (value instanceof Markup) return value.toString()
  if (typeof value === 'object') return value.map((item) => inserted(item, inAttribute)).join('')
  return inAttribute ? escapeXmlAttribute(String(value)) : escapeXmlText(String(value))
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

// All but what XML 1.0 calls Char: most control characters, halves of surrogate pairs, U+FFFE and U+FFFF cannot be
// carried in any form. They become U+FFFD, so that a reader sees that something stood there and lengths stay.
const forbidden = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu

/** Most text has none of these: one look saves three. */
const special = /[^\t\n\u0020-\u0025\u0027-\u003B\u003D\u003F-\uD7FF]/

/** Escapes character data. CR is written as a reference, because a parser turns a bare one into LF. */
export function escapeXmlText(text: string): string {
  if (!special.test(text)) return text
  return text
    .replace(forbidden, '\uFFFD')
    .replace(/[&<>]/g, (character) => entities[character] ?? character)
    .replaceAll('\r', '&#13;')
}

/** Escapes the value of an attribute in double quotes. Tab and line ends are written as references, to survive. */
export function escapeXmlAttribute(text: string): string {
  return text
    .replace(forbidden, '\uFFFD')
    .replace(/[&<>"]/g, (character) => entities[character] ?? character)
    .replace(/[\t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`)
}
