// The reference of the setup document, from its XML Schema: every element with its attributes, values and defaults. The
// page docs/setup.md has it behind what people write.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { XmlDocument, type XmlElement } from 'libxml2-wasm'
import { setupSchema } from '../src/model/setup-schema.ts'
import { templateWords } from '../src/model/template.ts'

const namespaces = { xs: 'http://www.w3.org/2001/XMLSchema' }

function find(element: XmlElement, path: string): XmlElement[] {
  // Steps of these paths name elements, so that nothing else is found.
  return element.find(path, namespaces) as XmlElement[]
}

function attribute(element: XmlElement, name: string): string | undefined {
  return element.attr(name)?.content
}

function documentation(element: XmlElement | undefined): string {
  const text = element && find(element, 'xs:annotation/xs:documentation').map(({ content }) => content)
  return (text?.join(' ') ?? '').replace(/\s+/g, ' ').trim().replaceAll('|', '\\|')
}

type Types = { readonly complex: ReadonlyMap<string, XmlElement>; readonly simple: ReadonlyMap<string, XmlElement> }

/** The lines of the reference: a section an element, in the order of a document. */
export function setupReference(): string[] {
  using document = XmlDocument.fromString(setupSchema)
  const { root } = document
  const named = (kind: string) =>
    new Map(find(root, kind).map((element) => [attribute(element, 'name') ?? '', element] as const))
  const types: Types = { complex: named('xs:complexType'), simple: named('xs:simpleType') }
  const [content] = find(root, 'xs:group')
  const done = new Set<string>()
  return [
    ...find(root, 'xs:element').flatMap((element) => section(element, [], { types, done })),
    '### What lies in a place',
    '',
    documentation(content).replace('What lies in a place. ', ''),
    '',
    ...(content === undefined ? [] : find(content, 'xs:choice/xs:element')).flatMap((element) =>
      section(element, ['place'], { types, done }),
    ),
  ]
}

type Context = { readonly types: Types; readonly done: Set<string> }

function section(element: XmlElement, parents: readonly string[], context: Context): string[] {
  const name = attribute(element, 'name') ?? ''
  const typeName = attribute(element, 'type')
  const complex = typeName === undefined ? find(element, 'xs:complexType')[0] : context.types.complex.get(typeName)
  const path = [...parents, name]
  const key = typeName ?? path.join(' ')
  if (complex !== undefined && context.done.has(key)) return []
  context.done.add(key)
  const text = [documentation(element), documentation(complex)].filter((one) => one !== '').join(' ')
  const value = complex === undefined ? valueInWords(element, context.types) : contentOf(complex, context.types)
  const attributes = complex === undefined ? [] : attributesOf(complex)
  const children = complex === undefined ? [] : childrenOf(complex)
  return [
    `### \`${path.join(' / ')}\``,
    '',
    ...(text === '' ? [] : [text, '']),
    ...(value === '' ? [] : [`Text: ${value}`, '']),
    ...(children.length === 0 ? [] : [`Inside: ${children.map(inWords).join(', ')}.`, '']),
    ...(attributes.length === 0
      ? []
      : [
          '| attribute | values | if it is not there |',
          '|---|---|---|',
          ...attributes.map((one) => attributeRow(one, context.types)),
          '',
        ]),
    ...children.filter((child) => child.name === 'element').flatMap((child) => section(child, path, context)),
  ]
}

/** What may be inside: elements, and the group of what lies in a place. */
function childrenOf(complex: XmlElement): XmlElement[] {
  const at = ['xs:sequence/*', 'xs:sequence/xs:choice/*', 'xs:choice/*', 'xs:group']
  return at.flatMap((path) => find(complex, path)).filter(({ name }) => name === 'element' || name === 'group')
}

function inWords(child: XmlElement): string {
  const [min, max] = [attribute(child, 'minOccurs') ?? '1', attribute(child, 'maxOccurs') ?? '1']
  const isChosen = child.parent?.name === 'choice'
  const often = isChosen ? 'or' : max === '1' ? (min === '0' ? 'at most once' : 'once') : `${min} to ${max} times`
  const name = child.name === 'group' ? 'what lies in a place' : `\`${attribute(child, 'name')}\``
  return `${name} (${often})`
}

function attributesOf(complex: XmlElement): XmlElement[] {
  return ['xs:attribute', 'xs:simpleContent/xs:extension/xs:attribute'].flatMap((path) => find(complex, path))
}

function attributeRow(one: XmlElement, types: Types): string {
  const words = [valueInWords(one, types), documentation(one)].filter((part) => part !== '').join('. ')
  const standard = attribute(one, 'default')
  const without =
    attribute(one, 'use') === 'required' ? 'must be there' : standard === undefined ? '-' : `\`${standard}\``
  return `| \`${attribute(one, 'name')}\` | ${words} | ${without} |`
}

function contentOf(complex: XmlElement, types: Types): string {
  const [extension] = find(complex, 'xs:simpleContent/xs:extension')
  const base = extension && attribute(extension, 'base')
  const type = base === undefined ? undefined : types.simple.get(base)
  return type === undefined ? '' : restrictionInWords(type)
}

/** What an attribute or an element of text may hold. */
function valueInWords(element: XmlElement, types: Types): string {
  const name = attribute(element, 'type')
  const type = name === undefined ? find(element, 'xs:simpleType')[0] : types.simple.get(name)
  return type === undefined ? '' : restrictionInWords(type)
}

function restrictionInWords(type: XmlElement): string {
  const facets = (name: string) =>
    find(type, `xs:restriction/xs:${name}`).map((facet) => (attribute(facet, 'value') ?? '').replaceAll('|', '\\|'))
  const text = documentation(type).replace(/\.$/, '')
  const words = facets('enumeration')
  if (words.length > 0) return words.map((word) => `\`${word}\``).join(', ')
  const [from] = facets('minInclusive')
  if (from !== undefined) return `a number from ${from} to ${facets('maxInclusive')[0]}`
  const [pattern] = facets('pattern')
  const [longest] = facets('maxLength')
  if (text !== '') return text
  return [
    ...(pattern === undefined ? [] : [`as \`${pattern}\``]),
    ...(longest === undefined ? [] : [`at most ${longest} characters`]),
  ].join(', ')
}

/** The words of templates, as a table. */
export function templateReference(): string[] {
  const rows = Object.entries(templateWords).map(([word, what]) => `| \`{{${word}}}\` | ${what} |`)
  return ['| word | what stands there |', '|---|---|', ...rows]
}

/** The examples, with what their first comment or description says. */
export function exampleList(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.xml'))
    .toSorted()
    .map((name) => {
      const text = readFileSync(join(folder, name), 'utf8')
      const said = /<!--([\s\S]*?)-->/.exec(text)?.[1] ?? /<description>([\s\S]*?)<\/description>/.exec(text)?.[1] ?? ''
      return `- [\`examples/${name}\`](../examples/${name}): ${said.replace(/\s+/g, ' ').trim()}`
    })
}
