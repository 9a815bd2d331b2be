import { expect, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { createLog, logTailBytesMax } from './log.ts'

test('the tail holds the newest lines and stays in its bound', () => {
  const log = createLog(() => undefined)
  for (let line = 0; line < 5000; line++) log.line(`line ${line} ${'ä'.repeat(50)}`)
  const tail = log.tail()
  expect(Buffer.byteLength(tail)).toBeLessThanOrEqual(logTailBytesMax)
  expect(Buffer.byteLength(tail)).toBeGreaterThan(logTailBytesMax - 200)
  expect(tail).toContain('line 4999 ')
  expect(tail).not.toContain('line 0 ')
})

test('a secret shows as stars wherever it turns up', () => {
  const written: string[] = []
  const log = createLog((line) => void written.push(line))
  log.hide(new Secret('t0ken'))
  log.line('GET /?t0ken')
  log.failure('asked', new Error('refused', { cause: new Error('bad t0ken') }))
  expect(written.join('')).not.toContain('t0ken')
  expect(log.tail()).toContain('asked: refused: bad ***')
})

test('a line is one line and not endless', () => {
  const written: string[] = []
  const log = createLog(
    (line) => void written.push(line),
    () => 0,
  )
  log.line('a\n  b\r\nc')
  log.line('x'.repeat(10_000))
  expect(written[0]).toBe('1970-01-01T00:00:00.000Z a b c\n')
  expect(written[1]?.length).toBeLessThan(5000)
})
