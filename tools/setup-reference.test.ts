import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseSetup } from '../src/model/setup.ts'
import { setupSchema } from '../src/model/setup-schema.ts'
import { setupReference } from './setup-reference.ts'

const root = join(import.meta.dirname, '..')

test('the reference has every element and attribute of the schema, and no attribute without a word', () => {
  const lines = setupReference()
  const named = (kind: string) =>
    [...setupSchema.matchAll(new RegExp(`<xs:${kind} name="([^"]+)"`, 'g'))].map(([, name]) => name)
  const headings = lines.filter((line) => line.startsWith('### `')).map((line) => line.slice(5, -1).split(' / ').at(-1))
  expect(new Set(headings)).toEqual(new Set(named('element')))
  const rows = lines
    .filter((line) => line.startsWith('| `'))
    .map((line) => /^\| `([^`]+)` \| (.*) \| .* \|$/.exec(line))
  expect(new Set(rows.map((row) => row?.[1]))).toEqual(new Set(named('attribute')))
  expect(rows.filter((row) => !row?.[2])).toEqual([])
})

test('every example is a setup', () => {
  const folder = join(root, 'examples')
  const documents = readdirSync(folder).filter((name) => name.endsWith('.xml'))
  expect(documents.length).toBeGreaterThan(0)
  for (const name of documents) expect(() => parseSetup(readFileSync(join(folder, name), 'utf8')), name).not.toThrow()
})

test('the example that docs/setup.md begins with is a setup', () => {
  const [, document = ''] = /```xml\n([\s\S]*?)```/.exec(readFileSync(join(root, 'docs', 'setup.md'), 'utf8')) ?? []
  expect(parseSetup(document).name).toBe('node')
})
