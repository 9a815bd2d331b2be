import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { unifiedDiff } from './text-diff.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hades-diff-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const names = { from: 'a', to: 'b' }

test('what differs is shown with three lines around it', () => {
  const from = ['1', '2', '3', '4', '5', '6', '7', '8', '9'].join('\n')
  expect(unifiedDiff(`${from}\n`, `${from.replace('5', 'five')}\n`, names)).toBe(
    ['--- a', '+++ b', '@@ -2,7 +2,7 @@', ' 2', ' 3', ' 4', '-5', '+five', ' 6', ' 7', ' 8', ''].join('\n'),
  )
})

test('texts that are the same have no difference, whatever ends their lines', () => {
  expect(unifiedDiff('a\r\nb\r\n', 'a\nb', names)).toBe('')
})

test('patch makes the one text of the other', () => {
  const text = fc
    .array(fc.constantFrom('a', 'b', 'c', '', ' d'), { maxLength: 30 })
    .map((lines) => lines.map((line) => `${line}\n`).join(''))
  fc.assert(
    fc.property(text, text, (from, to) => {
      const diff = unifiedDiff(from, to, names)
      expect(diff === '').toBe(from === to)
      if (diff === '') return
      const file = join(folder, 'text')
      writeFileSync(file, from)
      const patched = execFileSync('patch', ['--silent', '--output=-', file], { input: diff })
      expect(patched.toString()).toBe(to)
    }),
    { numRuns: 50 },
  )
})

test('texts without anything in common take no longer than their length allows', () => {
  const many = (word: string) => Array.from({ length: 5000 }, (_, i) => `${word}${i}`).join('\n')
  expect(unifiedDiff(many('a'), many('b'), names).split('\n')).toHaveLength(10_004)
})
