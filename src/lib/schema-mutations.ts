// Values that a schema refuses, or that are at its edge, made from one that fits: each field missing, null, of another type,
// empty, too long, out of range, nested, with odd characters, twice, and fields that nobody named. For tests.
import { isRequired, type Schema } from './schema.ts'

export type Mutation = {
  /** What was done to which field, as `interfaces[0].mac: null`. */
  readonly title: string
  readonly value: unknown
  /**
   * The field that must be named, and the ways by which the value is refused in any case: what is no text in JSON is some in
   * a query. Without it nobody can tell from the schema.
   */
  readonly at?: { readonly field: string; readonly by: readonly Way[] }
}

/** How a field travels. */
export type Way = 'json' | 'soap' | 'query' | 'path'

const json: readonly Way[] = ['json']
const bodies: readonly Way[] = ['json', 'soap']
const anywhere: readonly Way[] = ['json', 'soap', 'query']

/** All mutations of `value`, which fits the schema. `exampleOf` gives what fits where a field is left out. */
export function mutationsOf(schema: Schema, value: unknown, exampleOf: (schema: Schema) => unknown): Mutation[] {
  return mutate({ schema, value, exampleOf, field: '', put: (replaced) => replaced })
}

type Place = {
  readonly schema: Schema
  readonly value: unknown
  readonly field: string
  readonly exampleOf: (schema: Schema) => unknown
  /** The whole value with this in the place. */
  readonly put: (replaced: unknown) => unknown
}

function mutate(place: Place): Mutation[] {
  const { schema, value } = place
  if (schema.type === 'object' && isObject(value)) return ofObject(place, value)
  if (schema.type === 'array' && Array.isArray(value)) return ofList(place, value)
  return schema.enum || schema.type === 'string' ? ofText(place) : ofOther(place)
}

function ofObject({ schema, field, exampleOf, put }: Place, value: Readonly<Record<string, unknown>>): Mutation[] {
  const inside = (name: string) => (field === '' ? name : `${field}.${name}`)
  const surplus = (name: string): Mutation => {
    // Defined and not assigned, for `__proto__`.
    const more = Object.fromEntries([...Object.entries(value), [name, 'x']])
    return { title: `${inside(name)}: nobody named it`, value: put(more), at: { field: inside(name), by: anywhere } }
  }
  const fields = Object.entries(schema.properties ?? {}).flatMap(([name, part]) => {
    const set = (replaced: unknown) => put({ ...value, [name]: replaced })
    const { [name]: present, ...without } = value
    const at = isRequired(schema, name) && part.type !== 'array' ? { field: inside(name), by: anywhere } : undefined
    const missing = { title: `${inside(name)}: missing`, value: put(without), ...(at && { at }) }
    const before = present ?? exampleOf(part)
    return [
      missing,
      ...shared(part, inside(name), set),
      ...mutate({ schema: part, value: before, exampleOf, field: inside(name), put: set }),
    ]
  })
  return [surplus('nobodyNamedThis'), surplus('__proto__'), surplus('constructor'), ...fields]
}

/** What no field takes, whatever its type. */
function shared(schema: Schema, field: string, put: (replaced: unknown) => unknown): Mutation[] {
  let nested: unknown = 'x'
  for (let depth = 0; depth < 20; depth += 1) nested = { x: nested }
  const isList = schema.type === 'array'
  return [
    { title: `${field}: null`, value: put(null), at: { field, by: isList ? json : bodies } },
    { title: `${field}: nested`, value: put(nested), at: { field, by: isList ? json : bodies } },
    // A list may hold these two.
    { title: `${field}: twice`, value: put(['x', 'y']), ...(isList ? {} : { at: { field, by: anywhere } }) },
  ]
}

function ofList({ schema, field, exampleOf, put }: Place, items: readonly unknown[]): Mutation[] {
  const part = schema.items ?? {}
  const first = items[0] ?? exampleOf(part)
  const { maxItems = 0, minItems = 0 } = schema
  const refused = (title: string, list: unknown): Mutation => ({
    title: `${field}: ${title}`,
    value: put(list),
    at: { field, by: json },
  })
  const tooMany = Array.from({ length: maxItems + 1 }, () => first)
  return [
    minItems > 0 ? refused('empty', []) : { title: `${field}: empty`, value: put([]) },
    refused('text', 'x'),
    refused('an object', {}),
    ...(maxItems > 0 && maxItems <= 256 ? [refused('too many', tooMany)] : []),
    { title: `${field}: doubled`, value: put([...items, ...items]) },
    ...mutate({
      schema: part,
      value: first,
      exampleOf,
      field: `${field}[0]`,
      put: (item) => put([item, ...items.slice(1)]),
    }),
  ]
}

/** Text that has broken programs: characters that databases, XML, paths, shells and people read in their own way. */
const oddTexts: readonly string[] = [
  '\u0000',
  'a\u0000b',
  '\u0007\u001b[31m',
  '\ud800',
  '\ufffe\uffff',
  '😀'.repeat(40),
  'e\u0301\u202e\u200b',
  ' ',
  '\n',
  '../../etc/passwd',
  '%00%2e%2e%2f',
  "'; drop table hosts; --",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is what somebody may send.
  '${7*7}{{host}}',
  '<a>&b;</a>]]>',
  '__proto__',
  'NaN',
  '-0',
  'n[1-1000000]',
  'n[1-9999999999999]',
  '*',
  '!n1',
]

function ofText({ schema, field, put }: Place): Mutation[] {
  const { enum: words, maxLength, minLength = 0, pattern, format } = schema
  const isPlain = words === undefined && format === undefined
  const refused = (title: string, value: unknown, by = anywhere): Mutation => ({
    title: `${field}: ${title}`,
    value: put(value),
    at: { field, by },
  })
  const open = (text: string): Mutation =>
    !isPlain || (pattern !== undefined && !new RegExp(pattern).test(text.toWellFormed()))
      ? refused(JSON.stringify(text), text, json)
      : { title: `${field}: ${JSON.stringify(text)}`, value: put(text) }
  return [
    refused('a number', 7, json),
    refused('true', true, json),
    refused('an object', {}, json),
    minLength > 0 || !isPlain ? refused('empty', '') : { title: `${field}: empty`, value: put('') },
    ...(isPlain && maxLength !== undefined && maxLength <= 100_000
      ? [refused('too long', 'a'.repeat(maxLength + 1))]
      : []),
    ...(isPlain && maxLength !== undefined && maxLength <= 5000
      ? [{ title: `${field}: as long as may be`, value: put('ä'.repeat(maxLength)) }]
      : []),
    ...oddTexts.map(open),
  ]
}

function ofOther({ schema: { type, minimum, maximum }, field, put }: Place): Mutation[] {
  const refused = (title: string, value: unknown, by = anywhere): Mutation => ({
    title: `${field}: ${title}`,
    value: put(value),
    at: { field, by },
  })
  const texts = [refused('text', 'x'), refused('empty', ''), refused('an object', {}, json)]
  if (type === 'boolean') return [...texts, refused('a number', 7), refused('a word', 'yes')]
  const edges = [minimum, maximum].filter((edge) => edge !== undefined)
  return [
    ...texts,
    refused('true', true),
    refused('a number in words', '7', json),
    ...(type === 'integer' ? [refused('a fraction', 1.5), refused('beyond what is counted', 2 ** 53)] : []),
    ...(minimum === undefined ? [] : [refused('too small', minimum - 1)]),
    ...(maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? [] : [refused('too large', maximum + 1)]),
    ...[...edges, 0, 1e308].map((value) => ({ title: `${field}: ${value}`, value: put(value) })),
  ]
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
