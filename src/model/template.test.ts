import { expect, test } from 'vitest'
import { fillTemplate, readTemplate, type TemplateWord } from './template.ts'

const values: Partial<Record<TemplateWord, string>> = { host: 'n1', ip: '10.0.0.7' }
const fill = (text: string) => fillTemplate(text, (word) => values[word] ?? '?')

test('words become their values, with or without space around them', () => {
  expect(fill('{{host}} has {{ ip }}{{host}}')).toBe('n1 has 10.0.0.7n1')
  expect(readTemplate('{{host}} has {{ ip }}')).toEqual({ words: new Set(['host', 'ip']) })
})

test('four braces are two that stay, for the templates of other programs', () => {
  expect(fill('{{{{ v1.instance_id }} {% if x %} {a{b}}')).toBe('{{ v1.instance_id }} {% if x %} {a{b}}')
  expect(readTemplate('{{{{ v1.instance_id }}')).toEqual({ words: new Set() })
})

test.each([
  ['an unknown word', 'a\nb {{hosts}}', 1, /`\{\{hosts\}\}` is no word.*\{\{\{\{/],
  ['a name that every object has', '{{constructor}}', 0, /constructor/],
  ['braces that do not close', '{{host', 0, /no `\}\}` behind it/],
  ['braces that close on another line', 'a\n{{host\n}}', 1, /no `\}\}`/],
])('%s is a problem with its line', (_, text, line, problem) => {
  expect(readTemplate(text)).toEqual({ line, problem: expect.stringMatching(problem) })
})
