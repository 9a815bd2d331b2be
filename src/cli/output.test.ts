import { expect, test } from 'vitest'
import { duration, plain, size, table } from './output.ts'

test('columns are aligned, numbers to the right, gaps shown', () => {
  expect(
    table(
      ['name', 'size'],
      [
        ['a', 5],
        ['long', 123],
      ],
    ),
  ).toBe('NAME  SIZE\na        5\nlong   123')
  expect(table(['a', 'b'], [[undefined, 'x']])).toBe('A  B\n-  x')
})

test('text from machines cannot write to the terminal', () => {
  expect(plain('a\u001b[2Jb\r\nc')).toBe('a [2Jb c')
})

test('sizes and times read as people say them', () => {
  expect([size(0), size(1536), size(1024 ** 3 * 1.5), size(200 * 1024 ** 2)]).toEqual([
    '0 B',
    '1.5 KiB',
    '1.5 GiB',
    '200 MiB',
  ])
  expect([duration(8.24), duration(200), duration(7500)]).toEqual(['8.2 s', '3 min 20 s', '2 h 5 min'])
})
