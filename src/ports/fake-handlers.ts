// Handlers for tests: they note what reached them and answer with values made from the contract.
import fc from 'fast-check'
import type { Caller, Port } from '../contract/operation.ts'
import { isRequired, type Schema, schemaOf } from '../lib/schema.ts'
import type { ServedPort } from './dispatch.ts'

export type Seen = { readonly operation: string; readonly input: unknown; readonly caller: Caller }

export type FakePort = {
  readonly served: ServedPort
  /** Calls in the order in which they came. */
  readonly seen: Seen[]
  /** From now on the operation gives this, or throws it if it is an Error. */
  readonly answer: (operation: string, output: unknown) => void
  /** What the operation gives. */
  readonly outputOf: (operation: string) => unknown
}

/** A port whose operations answer with the samples of `seed`. */
export function fakePort(port: Port, seed = 1): FakePort {
  const outputs = new Map(
    Object.entries(port.operations).map(([name, { output }]) => [name, sampleOf(schemaOf(output), seed)]),
  )
  const seen: Seen[] = []
  const handlers = Object.fromEntries(
    Object.keys(port.operations).map((operation) => [
      operation,
      async (input: unknown, caller: Caller) => {
        seen.push({ operation, input, caller })
        const output = outputs.get(operation)
        if (output instanceof Error) throw output
        return output
      },
    ]),
  )
  return {
    served: { port, handlers },
    seen,
    answer: (operation, output) => outputs.set(operation, output),
    outputOf: (operation) => outputs.get(operation),
  }
}

/** One value that fits the schema, always the same for the same seed. */
export function sampleOf(schema: Schema, seed: number): unknown {
  return fc.sample(arbitraryOf(schema), { seed, numRuns: 1 })[0]
}

/** Values that fit a schema and that XML can carry. */
export function arbitraryOf(schema: Schema): fc.Arbitrary<unknown> {
  if (schema.enum) return fc.constantFrom(...schema.enum)
  switch (schema.type) {
    case 'object': {
      const properties = Object.entries(schema.properties ?? {})
      return fc.record(Object.fromEntries(properties.map(([name, property]) => [name, arbitraryOf(property)])), {
        requiredKeys: properties.map(([name]) => name).filter((name) => isRequired(schema, name)),
      })
    }
    case 'array':
      return fc.array(arbitraryOf(schema.items ?? {}), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min(schema.maxItems ?? 3, 3),
      })
    case 'integer':
      return fc.integer({
        min: schema.minimum ?? Number.MIN_SAFE_INTEGER,
        max: schema.maximum ?? Number.MAX_SAFE_INTEGER,
      })
    case 'number':
      return fc
        .double({ min: schema.minimum ?? -1e300, max: schema.maximum ?? 1e300, noNaN: true })
        .map((number) => number + 0)
    case 'boolean':
      return fc.boolean()
    default:
      return text(schema)
  }
}

/** What XML can carry and most easily gets wrong, and some of the rest of Unicode. */
const characters = [
  ...Array.from('\t\n\r <>&"\'abcXYZ0189-_.:;/%+=?#[]{}()'),
  '\u007F',
  '\u0085',
  '\u00A0',
  'ß',
  '\u0301',
  '\u2028',
  '\uD7FF',
  '\uE000',
  '\uFFFD',
  '😀',
  '\u{10FFFF}',
]

function text({ format, pattern, minLength = 0, maxLength = 4000 }: Schema): fc.Arbitrary<string> {
  if (format === 'date-time') {
    const [min, max] = [new Date('1970-01-01T00:00:00Z'), new Date('2100-01-01T00:00:00Z')]
    return fc.date({ min, max, noInvalidDate: true }).map((date) => date.toISOString())
  }
  if (pattern !== undefined) {
    return fc.stringMatching(new RegExp(pattern)).filter((word) => word.length <= maxLength)
  }
  const character = fc.constantFrom(...characters)
  return fc.array(character, { minLength, maxLength: Math.min(maxLength, 40) }).map((all) => all.join(''))
}
