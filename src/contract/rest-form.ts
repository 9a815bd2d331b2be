// How an operation's input travels by REST: fields in the path, then in the query (GET, DELETE) or as a JSON body. Both
// directions stand here, because each must undo the other.
import { type Schema, schemaOf } from '../lib/schema.ts'
import { Failure } from '../model/failure.ts'
import type { Operation, Port } from './operation.ts'

/** An input on its way: `path` percent-encoded and below the server's root, query included. */
export type RestForm = { readonly method: string; readonly path: string; readonly body: string | undefined }

/** Below this path, relative to the server's root, are the REST routes of a port. */
export function restBase(port: Port): string {
  return `/${port.name}/v1`
}

/** Names of the fields that stand in the path, in its order. */
export function pathFields({ rest }: Operation): string[] {
  return [...rest.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '')
}

/** True when the fields that are not in the path stand in the query. */
export function takesQuery({ rest }: Operation): boolean {
  return rest.method === 'GET' || rest.method === 'DELETE'
}

/** Writes an input that fits the operation. */
export function toRestForm(port: Port, operation: Operation, input: Readonly<Record<string, unknown>>): RestForm {
  const { method, path } = operation.rest
  const inPath = pathFields(operation)
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(asText(input[name])))
  const rest = Object.entries(input).filter(([name, value]) => !inPath.includes(name) && value !== undefined)
  if (!takesQuery(operation)) {
    return { method, path: restBase(port) + filled, body: JSON.stringify(Object.fromEntries(rest)) }
  }
  const query = new URLSearchParams()
  for (const [name, value] of rest) for (const item of [value].flat()) query.append(name, asText(item))
  return { method, path: `${restBase(port)}${filled}${query.size > 0 ? `?${query.toString()}` : ''}`, body: undefined }
}

/**
 * Reads an input, unchecked: text of path and query becomes what the schema says where it can, and stays text where
 * it cannot, for the check to tell. `body` is the parsed JSON, `undefined` if there was none. Throws Failure `bad-input`
 * when a field of the path is given once more.
 */
export function fromRestForm(
  operation: Operation,
  form: {
    readonly path: Readonly<Record<string, string | undefined>>
    readonly query: URLSearchParams
    readonly body: unknown
  },
): unknown {
  const { properties = {} } = schemaOf(operation.input)
  const { body = {} } = form
  if (!takesQuery(operation) && (typeof body !== 'object' || body === null || Array.isArray(body))) return body
  const given: [string, unknown][] = takesQuery(operation)
    ? [...new Set(form.query.keys())].map((name) => [name, fromQuery(properties[name] ?? {}, form.query.getAll(name))])
    : Object.entries(body as object)
  const inPath = pathFields(operation)
  // A field that is given twice must not be one thing to the router and another to the handler.
  const twice = given.find(([name]) => inPath.includes(name))?.[0]
  if (twice !== undefined)
    throw new Failure('bad-input', `\`${twice}\` stands in the path: leave it out`, { at: twice })
  return Object.fromEntries([
    ...given,
    ...inPath.map((name): [string, unknown] => [name, fromText(properties[name] ?? {}, form.path[name] ?? '')]),
  ])
}

function fromQuery(schema: Schema, values: readonly string[]): unknown {
  if (schema.type === 'array') return values.map((value) => fromText(schema.items ?? {}, value))
  const [only = ''] = values
  return values.length === 1 ? fromText(schema, only) : values
}

/**
 * The value that `text` writes in XML Schema's notation for the schema's type (the same in a query and in an XML
 * element), or `text` itself if it writes none.
 */
export function fromText(schema: Schema, text: string): unknown {
  switch (schema.type) {
    case 'integer':
      return integerOf(text)
    case 'number':
      return /^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$/.test(text) ? Number(text) : text
    case 'boolean':
      return { true: true, 1: true, false: false, 0: false }[text.trim()] ?? text
    case 'string':
      return schema.format === 'date-time' ? withZone(text.trim()) : text
    default:
      return text
  }
}

function integerOf(text: string): unknown {
  if (!/^\s*[+-]?\d{1,30}\s*$/.test(text)) return text
  // Adding zero makes -0 the 0 that it means.
  return Number(text) + 0
}

/** XML Schema lets a time without zone mean anything; here it means UTC. */
function withZone(text: string): string {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$/.test(text) ? `${text}Z` : text
}

/** Text for the path, the query and XML: what `fromText` reads back. */
export function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
