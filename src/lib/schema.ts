// Values against JSON Schemas written with TypeBox: what is wrong, in sentences for people, and what to leave out. Only
// the part of JSON Schema that XML Schema can say too: strings, closed sets of words, integers, numbers, booleans,
// lists, and objects with fixed fields.
import { inspect } from 'node:util'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'

/** A schema as the data it is. */
export type Schema = {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean'
  readonly title?: string
  readonly description?: string
  readonly enum?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: boolean
  readonly format?: string
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly maxItems?: number
}

export type Problem = {
  /** Path of the field, as `interfaces[0].mac`; empty for the whole value. */
  readonly at: string
  /** What is wrong and what is allowed. */
  readonly sentence: string
  /** `shape`: a field is missing, unknown or of the wrong type. `facet`: the type is right, the value out of bounds. */
  readonly kind: 'shape' | 'facet'
}

/** A TypeBox schema as plain data. Its types are made of exactly these keywords, if it is written as this file asks. */
export function schemaOf(type: TSchema): Schema {
  return type
}

/**
 * Compiles a check that gives at most eight problems, none when `value` fits. Objects are closed: a field that the
 * schema does not name is a problem. Integers beyond 2^53-1 are refused whatever the schema says, because two of
 * them could not be told apart.
 */
export function compileCheck(type: TSchema): (value: unknown) => Problem[] {
  const schema = schemaOf(type)
  const validator = Compile(closed(schema))
  return (value) => {
    if (validator.Check(value)) return []
    const problems: Problem[] = []
    for (const error of validator.Errors(value) as readonly SchemaError[]) {
      problems.push(...problemsOf(schema, value, error))
    }
    return problems
  }
}

/** A copy of `value` with only the fields that the schema names; `undefined` fields are left out. */
export function pruned(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) return schema.items ? value.map((item) => pruned(schema.items ?? {}, item)) : value
  if (schema.properties === undefined || typeof value !== 'object' || value === null) return value
  const kept: Record<string, unknown> = {}
  for (const name in schema.properties) {
    const field = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
    if (field !== undefined) kept[name] = pruned(schema.properties[name] ?? {}, field)
  }
  return kept
}

export function isRequired(schema: Schema, name: string): boolean {
  return schema.required?.includes(name) ?? false
}

function closed(schema: Schema): Schema {
  if (schema.type === 'integer') {
    return { minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER, ...schema }
  }
  if (schema.type === 'array' && schema.items) return { ...schema, items: closed(schema.items) }
  if (schema.properties === undefined) return schema
  const properties = Object.fromEntries(Object.entries(schema.properties).map(([name, part]) => [name, closed(part)]))
  return { ...schema, properties, additionalProperties: false }
}

/** What TypeBox reports; its own sentences are for programmers. */
type SchemaError = {
  readonly keyword: string
  readonly instancePath: string
  readonly params: { readonly requiredProperties?: readonly string[]; readonly limit?: number }
}

function problemsOf(root: Schema, rootValue: unknown, error: SchemaError): Problem[] {
  const place = walk(root, rootValue, error.instancePath)
  const { at, schema, value } = place
  const field = at === '' ? 'the input' : `\`${at}\``
  const shape = (sentence: string): Problem[] => [{ at, sentence, kind: 'shape' }]
  const facet = (sentence: string): Problem[] => [{ at, sentence, kind: 'facet' }]
  switch (error.keyword) {
    case 'required':
      return (error.params.requiredProperties ?? []).map((name) => missing(at, name, schema.properties?.[name]))
    case 'boolean':
      return shape(unknownField(place))
    case 'additionalProperties':
      // Each unknown field is reported by itself as `boolean` too.
      return []
    case 'enum':
      return shape(`${field} is ${quoted(value)}; allowed are ${schema.enum?.join(', ')}`)
    case 'type':
      return shape(`${field} is ${kindOf(value)}; it must be ${nounOf(schema)}`)
    case 'format':
      return shape(`${field} is ${quoted(value)}; it must be ${nounOf(schema)}`)
    case 'pattern':
      return facet(`${field} is ${quoted(value)}; it must be: ${schema.description ?? `text like ${schema.pattern}`}`)
    case 'minLength':
    case 'maxLength':
      return facet(
        `${field} has ${Array.from(value as string).length} characters; ${lengths(schema.minLength, schema.maxLength)}`,
      )
    case 'minItems':
    case 'maxItems':
      return facet(`${field} has ${(value as unknown[]).length} items; ${lengths(schema.minItems, schema.maxItems)}`)
    case 'minimum':
    case 'maximum':
      return facet(`${field} is ${inspect(value)}; ${range(schema)}`)
    default:
      return shape(`${field} must be ${nounOf(schema)}`)
  }
}

function missing(at: string, name: string, schema: Schema | undefined): Problem {
  const field = at === '' ? name : `${at}.${name}`
  return { at: field, sentence: `\`${field}\` is missing; it must be ${nounOf(schema ?? {})}`, kind: 'shape' }
}

function unknownField({ at, parent }: Place): string {
  const fields = Object.keys(parent?.properties ?? {})
  const known = fields.length === 0 ? 'no field is expected here' : `the fields here are ${fields.join(', ')}`
  return `there is no field \`${at}\`; ${known}`
}

function lengths(min: number | undefined, max: number | undefined): string {
  if (min !== undefined && max !== undefined) return `from ${min} to ${max} are allowed`
  return max === undefined ? `at least ${min ?? 0} must be given` : `at most ${max} are allowed`
}

function range({ minimum, maximum }: Schema): string {
  if (minimum === undefined && maximum === undefined) return `at most ${Number.MAX_SAFE_INTEGER} is allowed`
  if (minimum !== undefined && maximum !== undefined) return `from ${minimum} to ${maximum} is allowed`
  return minimum === undefined ? `at most ${maximum} is allowed` : `at least ${minimum} is allowed`
}

function nounOf(schema: Schema): string {
  if (schema.enum) return `one of ${schema.enum.join(', ')}`
  if (schema.format === 'date-time') return 'a date and time with its zone, as 2026-11-22T17:00:00Z'
  const nouns = {
    object: 'an object',
    array: 'a list',
    string: 'text',
    integer: 'a whole number',
    number: 'a number',
    boolean: 'true or false',
  }
  const noun = schema.type === undefined ? 'something else' : nouns[schema.type]
  return schema.description === undefined ? noun : `${noun} (${schema.description})`
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'an object'
  return typeof value === 'string' ? `the text ${quoted(value)}` : inspect(value)
}

/** Enough of a value to recognise it; control characters come out as escapes. */
function quoted(value: unknown): string {
  if (typeof value !== 'string') return kindOf(value)
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
}

type Place = {
  readonly at: string
  readonly schema: Schema
  readonly parent: Schema | undefined
  readonly value: unknown
}

/** Follows a JSON Pointer through schema and value at once. */
function walk(root: Schema, rootValue: unknown, pointer: string): Place {
  let place: Place = { at: '', schema: root, parent: undefined, value: rootValue }
  for (const escaped of pointer.split('/').slice(1)) {
    const name = escaped.replaceAll('~1', '/').replaceAll('~0', '~')
    const { at, schema, value } = place
    const isItem = schema.items !== undefined
    const shown = name.length > 60 ? `${name.slice(0, 60)}…` : name
    place = {
      at: isItem ? `${at}[${name}]` : `${at}${at === '' ? '' : '.'}${shown}`,
      // The fields of `properties` are schemas.
      schema: (isItem ? schema.items : (ownField(schema.properties, name) as Schema | undefined)) ?? {},
      parent: schema,
      value: ownField(value, name),
    }
  }
  return place
}

function ownField(container: unknown, name: string): unknown {
  if (typeof container !== 'object' || container === null || !Object.hasOwn(container, name)) return undefined
  return (container as Record<string, unknown>)[name]
}
