// The contract's types in XML: XML Schema 1.0 for them, and values to elements and back. Every element is qualified;
// a list is its elements repeated, without one around them; fields come in the order of the contract.
import { asText, fromText } from '../contract/rest-form.ts'
import { isRequired, type Schema } from '../lib/schema.ts'
import { attributeOf, escapeXmlText, Markup, type XmlElement, xml } from '../lib/xml.ts'
import { Failure, invariant } from '../model/failure.ts'

const instanceNamespace = 'http://www.w3.org/2001/XMLSchema-instance'

/** Writes an element called `name` that declares `namespace`, with the fields of `value` inside. */
export function encodeRoot(schema: Schema, name: string, namespace: string, value: unknown): Markup {
  return xml`<${name} xmlns="${namespace}">${new Markup(encodeFields(schema, value))}</${name}>`
}

// Strings and not the template from here on: a list of ten thousand hosts is a million elements.

function encodeFields(schema: Schema, value: unknown): string {
  // Checked before: an object schema has objects as values.
  const fields = value as Readonly<Record<string, unknown>>
  let text = ''
  for (const name in schema.properties) {
    const field = fields[name]
    const property = schema.properties[name]
    if (field === undefined || property === undefined) continue
    if (!Array.isArray(field)) text += encodeElement(property, name, field)
    // XML cannot tell an empty list from none by itself; a nil element says that it is given and empty.
    else if (field.length > 0) for (const item of field) text += encodeElement(property.items ?? {}, name, item)
    else if (!isRequired(schema, name)) text += `<${name} xmlns:xsi="${instanceNamespace}" xsi:nil="true"/>`
  }
  return text
}

function encodeElement(schema: Schema, name: string, value: unknown): string {
  const inside = schema.type === 'object' ? encodeFields(schema, value) : escapeXmlText(encodeText(schema, value))
  return `<${name}>${inside}</${name}>`
}

function encodeText(schema: Schema, value: unknown): string {
  if (schema.format !== 'date-time') return asText(value)
  const text = asText(value)
  // RFC 3339 allows other zones and small letters, XML Schema no small letters; readers get UTC.
  return /^[\d.:T-]+Z$/.test(text) ? text : new Date(text).toISOString()
}

/**
 * Reads the fields of an element, unchecked: text becomes what the schema says where it can and stays text where it
 * cannot, and what does not belong stays in the value, for the check to tell. The order of fields does not matter: the
 * schema says in which order we write. Throws Failure `bad-input` for what no value can show, that is attributes and
 * elements of other namespaces.
 */
export function decodeRoot(schema: Schema, element: XmlElement): unknown {
  return decodeFields(schema, element, '')
}

function decodeFields(schema: Schema, element: XmlElement, at: string): unknown {
  const { properties = {} } = schema
  const found = new Map<string, unknown[]>()
  if (element.text.trim() !== '') return element.text
  for (const child of element.children) {
    const path = at === '' ? child.name : `${at}.${child.name}`
    if (child.namespace !== element.namespace) {
      const sentence = `\`${shown(path)}\` is in the namespace "${shown(child.namespace)}"; it must be in "${element.namespace}"`
      throw new Failure('bad-input', sentence, { at: shown(path) })
    }
    const property = Object.hasOwn(properties, child.name) ? properties[child.name] : undefined
    const items = found.get(child.name) ?? []
    const isList = property?.type === 'array'
    const item = isList ? property.items : property
    items.push(decodeElement(item ?? {}, child, isList ? `${path}[${items.length}]` : path))
    found.set(child.name, items)
  }
  return Object.fromEntries([
    ...emptyLists(schema),
    ...[...found].map(([name, items]) => [name, one(properties, name, items)]),
  ])
}

/** A required list without elements is there and empty. */
function emptyLists(schema: Schema): [string, unknown][] {
  return Object.entries(schema.properties ?? {})
    .filter(([name, property]) => property.type === 'array' && isRequired(schema, name))
    .map(([name]) => [name, []])
}

function one(properties: Readonly<Record<string, Schema>>, name: string, items: readonly unknown[]): unknown {
  if (Object.hasOwn(properties, name) && properties[name]?.type === 'array') {
    return items.length === 1 && items[0] === null ? [] : items
  }
  return items.length === 1 ? items[0] : items
}

function decodeElement(schema: Schema, element: XmlElement, at: string): unknown {
  const stray = element.attributes.find((attribute) => attribute.namespace === '')
  if (stray) {
    const sentence = `\`${shown(at)}\` has the attribute "${shown(stray.name)}"; fields are elements`
    throw new Failure('bad-input', sentence, { at: shown(at) })
  }
  const nil = attributeOf(element, 'nil', instanceNamespace)?.trim()
  if (nil === 'true' || nil === '1') return null
  if (schema.type === 'object') return decodeFields(schema, element, at)
  return element.children.length > 0 ? {} : fromText(schema, element.text)
}

function shown(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}

/** A global element of a schema and the type of what is inside. */
export type RootElement = { readonly name: string; readonly schema: Schema }

/** XML Schema of these elements, and of every type with a title that they need, all in `namespace`. */
export function writeXsd(namespace: string, roots: readonly RootElement[]): Markup {
  const named = new Map<string, Schema>()
  const elements = roots.map(({ name, schema }) => {
    const known = schema.title === undefined ? undefined : typeName(schema, named)
    return known === undefined
      ? xml`<xs:element name="${name}">${schema.type === 'object' ? complexType(schema, undefined, named) : simpleType(schema, undefined)}</xs:element>`
      : xml`<xs:element name="${name}" type="${known}"/>`
  })
  const types: Markup[] = []
  // Writing a type can need more types; a Map goes on over those that are added meanwhile.
  for (const [title, schema] of named) types.push(namedType(title, schema, named))
  return xml`<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:tns="${namespace}" targetNamespace="${namespace}" elementFormDefault="qualified">${elements}${types}</xs:schema>`
}

type NamedTypes = Map<string, Schema>

function namedType(title: string, schema: Schema, named: NamedTypes): Markup {
  return schema.type === 'object' ? complexType(schema, title, named) : simpleType(schema, title)
}

function complexType(schema: Schema, title: string | undefined, named: NamedTypes): Markup {
  const fields = Object.entries(schema.properties ?? {}).map(([name, property]) =>
    fieldElement(name, property, isRequired(schema, name), named),
  )
  return xml`<xs:complexType${named_(title)}>${title === undefined ? undefined : documentation(schema)}<xs:sequence>${fields}</xs:sequence></xs:complexType>`
}

function fieldElement(name: string, schema: Schema, required: boolean, named: NamedTypes): Markup {
  const isList = schema.type === 'array'
  const type = isList ? (schema.items ?? {}) : schema
  const least = required ? (isList ? (schema.minItems ?? 0) : 1) : 0
  const occurs = xml`${least === 1 ? undefined : xml` minOccurs="${least}"`}${isList ? xml` maxOccurs="unbounded"` : undefined}`
  const nillable = isList && !required ? xml` nillable="true"` : undefined
  const known = typeName(type, named)
  const inline =
    known === undefined
      ? type.type === 'object'
        ? complexType(type, undefined, named)
        : simpleType(type, undefined)
      : undefined
  const reference = known === undefined ? undefined : xml` type="${known}"`
  return xml`<xs:element name="${name}"${reference}${occurs}${nillable}>${documentation(schema, nillable && 'One nil element is an empty list; no element leaves the list out')}${inline}</xs:element>`
}

/** The qualified name of a type, or `undefined` if it must be written where it is used. */
function typeName(schema: Schema, named: NamedTypes): string | undefined {
  if (schema.title !== undefined) {
    const known = named.get(schema.title)
    invariant(
      known === undefined || JSON.stringify(known) === JSON.stringify(schema),
      `two types called ${schema.title}`,
    )
    named.set(schema.title, schema)
    return `tns:${schema.title}`
  }
  return schema.type === 'object' || facets(schema).length > 0 ? undefined : baseType(schema)
}

function simpleType(schema: Schema, title: string | undefined): Markup {
  return xml`<xs:simpleType${named_(title)}>${title === undefined ? undefined : documentation(schema)}<xs:restriction base="${baseType(schema)}">${facets(schema)}</xs:restriction></xs:simpleType>`
}

function named_(title: string | undefined): Markup | undefined {
  return title === undefined ? undefined : xml` name="${title}"`
}

function documentation({ description }: Schema, more?: string): Markup | undefined {
  const sentences = [description, more].filter((sentence) => sentence !== undefined)
  if (sentences.length === 0) return undefined
  return xml`<xs:annotation><xs:documentation>${sentences.join('. ')}</xs:documentation></xs:annotation>`
}

function baseType({ type, format }: Schema): string {
  switch (type) {
    case 'integer':
      return 'xs:long'
    case 'number':
      return 'xs:double'
    case 'boolean':
      return 'xs:boolean'
    default:
      return format === 'date-time' ? 'xs:dateTime' : 'xs:string'
  }
}

function facets(schema: Schema): Markup[] {
  const pattern = schema.pattern === undefined ? undefined : xsdPattern(schema.pattern)
  const pairs: readonly (readonly [string, string | number | undefined])[] = [
    ...(schema.enum ?? []).map((word) => ['enumeration', word] as const),
    ['minLength', schema.minLength],
    ['maxLength', schema.maxLength],
    ['pattern', pattern],
    ['minInclusive', schema.minimum],
    ['maxInclusive', schema.maximum],
  ]
  return pairs.flatMap(([facet, value]) => (value === undefined ? [] : [xml`<xs:${facet} value="${value}"/>`]))
}

/**
 * A JavaScript pattern in XML Schema's language, which is anchored by itself and has no lazy or looking parts, or
 * `undefined` if it cannot be said there.
 */
export function xsdPattern(pattern: string): string | undefined {
  const inner = /^\^(.*)\$$/s.exec(pattern)?.[1]
  // An alternative outside of all groups would belong to only one of the anchors.
  const outside = inner
    ?.replace(/\\./g, '')
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\([^()]*\)/g, '')
  if (inner === undefined || outside?.includes('|') || /\(\?[^:]|[*+?}]\?|\\[bBkpPuw]|\\x/.test(inner)) return undefined
  return inner.replaceAll('(?:', '(').replaceAll('\\d', '[0-9]').replaceAll('\\/', '/')
}
