// OpenAPI 3.1 of a port's REST routes. The contract's schemas are JSON Schema already; those with a title become
// components, so that generated clients get types with names.
import { failureBody } from '../contract/failure-body.ts'
import { failureMeanings } from '../contract/failures.ts'
import { commonFailures, idempotencyKey, type Operation, type Port, type Stream } from '../contract/operation.ts'
import { pathFields, restBase, takesQuery } from '../contract/rest-form.ts'
import { isRequired, type Schema, schemaOf } from '../lib/schema.ts'
import { type FailureCode, invariant } from '../model/failure.ts'

type Json = Readonly<Record<string, unknown>>

/** The OpenAPI document of a port under `base`, an absolute URL without a slash at its end. */
export function openapiOf(port: Port, base: string, version: string): Json {
  const components = new Map<string, { schema: Schema; json: Json }>()
  const paths: Record<string, Record<string, Json>> = {}
  for (const [name, operation] of Object.entries(port.operations)) {
    const { method, path } = operation.rest
    paths[path] = { ...paths[path], [method.toLowerCase()]: describe(name, operation, components) }
  }
  for (const [name, stream] of Object.entries(port.streams ?? {})) {
    paths[stream.path] = { get: describeStream(name, stream, components) }
  }
  return {
    openapi: '3.1.0',
    info: { title: port.summary, version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    servers: [{ url: `${base}${restBase(port)}` }],
    security: [{ bearer: [] }, { basic: [] }],
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        basic: { type: 'http', scheme: 'basic', description: 'Any user name; the token is the password' },
      },
      schemas: Object.fromEntries([...components].map(([title, { json }]) => [title, json])),
    },
  }
}

type Components = Map<string, { schema: Schema; json: Json }>

function describe(name: string, operation: Operation, components: Components): Json {
  const input = schemaOf(operation.input)
  const inPath = pathFields(operation)
  const rest = Object.keys(input.properties ?? {}).filter((field) => !inPath.includes(field))
  const parameters = (
    inPath.length > 0 || takesQuery(operation) ? [...inPath, ...(takesQuery(operation) ? rest : [])] : []
  ).map((field) => parameter(field, inPath.includes(field), input, components))
  if (operation.once !== undefined) parameters.push(keyParameter)
  const body: Schema = {
    type: 'object',
    properties: Object.fromEntries(rest.map((field) => [field, input.properties?.[field] ?? {}])),
    required: (input.required ?? []).filter((field) => rest.includes(field)),
  }
  return {
    operationId: name,
    summary: operation.summary,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(takesQuery(operation)
      ? {}
      : {
          requestBody: { required: true, content: json({ ...inline(body, components), additionalProperties: false }) },
        }),
    responses: responses(operation, components),
  }
}

/** A stream: OpenAPI 3.1 has no word for what each event of it holds, so the schema of the whole is text. */
function describeStream(name: string, { summary, input, item }: Stream, components: Components): Json {
  const schema = schemaOf(input)
  const fields = Object.keys(schema.properties ?? {})
  const title = schemaOf(item).title ?? 'the item'
  reference(schemaOf(item), components)
  return {
    operationId: name,
    summary,
    parameters: [
      ...fields.map((field) => parameter(field, false, schema, components)),
      {
        name: 'Last-Event-ID',
        in: 'header',
        required: false,
        description: 'The `id` of the last event already seen',
        schema: { type: 'integer', minimum: 0 },
      },
    ],
    responses: {
      200: {
        description: `Server-sent events: \`id\` is a growing number, \`data\` is ${title} as JSON. \`event: end\` says that the service ends`,
        content: { 'text/event-stream': { schema: { type: 'string' } } },
      },
      default: { description: 'A failure', content: json(reference(schemaOf(failureBody), components)) },
    },
  }
}

const keyParameter: Json = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description: `Called again with the same key and input, it answers again and does nothing. ${idempotencyKey.description}`,
  schema: { type: 'string', pattern: idempotencyKey.pattern },
}

function parameter(field: string, isInPath: boolean, input: Schema, components: Components): Json {
  const schema = input.properties?.[field] ?? {}
  return {
    name: field,
    in: isInPath ? 'path' : 'query',
    required: isInPath || isRequired(input, field),
    ...(schema.description === undefined ? {} : { description: schema.description }),
    schema: reference(schema, components),
  }
}

function responses(operation: Operation, components: Components): Json {
  const failure = reference(schemaOf(failureBody), components)
  const codesByStatus = new Map<number, FailureCode[]>()
  for (const code of [...commonFailures, ...operation.failures]) {
    const { status } = failureMeanings[code]
    codesByStatus.set(status, [...(codesByStatus.get(status) ?? []), code])
  }
  const failures = [...codesByStatus].map(([status, codes]) => [
    String(status),
    { description: codes.map((code) => `${code}: ${failureMeanings[code].remedy}`).join(' '), content: json(failure) },
  ])
  return {
    200: { description: 'Done', content: json(inline(schemaOf(operation.output), components)) },
    ...Object.fromEntries(failures),
    default: { description: 'Another failure', content: json(failure) },
  }
}

function json(schema: Json): Json {
  return { 'application/json': { schema } }
}

/** A schema as it stands in another one: by name if it has one. */
function reference(schema: Schema, components: Components): Json {
  const { title } = schema
  if (title === undefined) return inline(schema, components)
  const known = components.get(title)
  invariant(known === undefined || JSON.stringify(known.schema) === JSON.stringify(schema), `two types called ${title}`)
  if (known === undefined) {
    // Noted before its fields are written, so that each type is written once.
    components.set(title, { schema, json: {} })
    components.set(title, { schema, json: inline(schema, components) })
  }
  return { $ref: `#/components/schemas/${title}` }
}

function inline(schema: Schema, components: Components): Json {
  const { properties, items, title: _, ...rest } = schema
  return {
    ...rest,
    ...(properties
      ? {
          properties: Object.fromEntries(
            Object.entries(properties).map(([name, property]) => [name, reference(property, components)]),
          ),
        }
      : {}),
    ...(items ? { items: reference(items, components) } : {}),
  }
}
