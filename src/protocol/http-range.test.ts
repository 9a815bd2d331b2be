import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatRangeRequest, parseAnswerHead, parseRetryAfter, rangeProblem, readBody } from './http-range.ts'

const range = { start: 100, end: 300, totalBytes: 1000 }
const right = { 'content-range': 'bytes 100-299/1000', 'content-length': '200' }

test('a request names the range, and nothing in the URL ends a line of it', () => {
  const url = new URL('http://origin:7780/images/a b\r\nX: y/image.zst?mirror=1')
  expect(formatRangeRequest(url, range).split('\r\n')).toEqual([
    'GET /images/a%20bX:%20y/image.zst?mirror=1 HTTP/1.1',
    'Host: origin:7780',
    'Range: bytes=100-299',
    'Accept-Encoding: identity',
    'User-Agent: hades',
    '',
    '',
  ])
})

test('a head is read wherever it was cut, and the body is left', () => {
  const head = 'HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nVary: a\r\nvary:b\r\n\r\n'
  const bytes = Buffer.from(`${head}abc`)
  for (let cut = 0; cut < head.length; cut++) expect(parseAnswerHead(bytes.subarray(0, cut))).toBeUndefined()
  const headers = { 'content-length': '3', vary: 'a, b' }
  expect(parseAnswerHead(bytes)).toEqual({
    head: { status: 206, reason: 'Partial Content', headers, keepsAlive: true },
    length: head.length,
  })
})

test.each([
  ['HTTP/1.1 200 OK\r\n\r\n', true],
  ['HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n', false],
  ['HTTP/1.1 200 OK\r\nConnection: Upgrade, Close\r\n\r\n', false],
  ['HTTP/1.0 200 OK\r\n\r\n', false],
  ['HTTP/1.0 200\r\nConnection: Keep-Alive\r\n\r\n', true],
])('%j keeps the connection: %j', (head, keepsAlive) => {
  expect(parseAnswerHead(Buffer.from(head))?.head.keepsAlive).toBe(keepsAlive)
})

test.each([
  'SSH-2.0-OpenSSH_9.2\r\n',
  'HTTP/2 200 OK\r\n\r\n',
  'HTTP/1.1 999 OK\r\n\r\n',
  'HTTP/1.1 200 OK\r\nno colon\r\n\r\n',
  'HTTP/1.1 200 OK\r\n folded: line\r\n\r\n',
])('%j is refused', (text) => {
  expect(() => parseAnswerHead(Buffer.from(text))).toThrow(/^the answer /)
})

test('no bytes at all make it fail in another way', () => {
  const begun = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.concat([Buffer.from('HTTP/1.1 206 '), bytes]))
  const whole = begun.map((bytes) => Buffer.concat([bytes, Buffer.from('\r\n\r\n')]))
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), begun, whole), (bytes) => {
      try {
        parseAnswerHead(Buffer.from(bytes))
      } catch (error) {
        expect(String(error)).toMatch(/^Error: the answer /)
      }
    }),
  )
})

test('the range that was asked is right', () => {
  expect(rangeProblem(206, right, range)).toBeUndefined()
  expect(rangeProblem(206, { 'content-range': 'bytes 100-299/1000' }, range)).toBeUndefined()
})

test.each([
  [200, right, 'the origin ignored the Range header: it answered 200 with the whole file'],
  [206, {}, 'the origin answered Content-Range (none), asked was bytes 100-299/1000'],
  [
    206,
    { ...right, 'content-range': 'bytes 100-299/1001' },
    'the origin answered Content-Range bytes 100-299/1001, asked was bytes 100-299/1000',
  ],
  [206, { ...right, 'content-encoding': 'gzip' }, 'the origin answered in Content-Encoding gzip'],
  [206, { ...right, 'content-length': '20' }, 'the origin announced 20 bytes, asked were 200'],
])('%d %j is not', (status, headers, problem) => {
  expect(rangeProblem(status, headers, range)).toBe(problem)
})

test.each([
  [undefined, undefined],
  ['0', 0],
  ['120', 120_000],
  ['Tue, 24 Nov 2026 00:00:30 GMT', 30_000],
  ['Mon, 23 Nov 2026 00:00:00 GMT', 0],
  ['soon', undefined],
])('Retry-After %j asks for %j ms', (value, ms) => {
  expect(parseRetryAfter(value, new Date('2026-11-24T00:00:00Z'))).toBe(ms)
})

test.each([
  ['Content-Length: 5', 'hel', 'hel', false],
  ['Content-Length: 5', 'hello and more', 'hello', true],
  ['Content-Length: 0', '', '', true],
  ['Vary: a', 'hello', 'hello', false],
  ['Transfer-Encoding: Chunked', '3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n', 'hello', true],
  ['Transfer-Encoding: chunked', '3\r\nhel\r\n2', 'hel', false],
  ['Transfer-Encoding: chunked', '3\r\nh', 'h', false],
  ['Transfer-Encoding: chunked', '', '', false],
  ['Transfer-Encoding: chunked', 'no size\r\n', '', true],
])('with %s the body of %j is %j, whole: %j', (field, received, body, isWhole) => {
  const head = parseAnswerHead(Buffer.from(`HTTP/1.1 500 X\r\n${field}\r\n\r\n`))?.head
  if (head === undefined) throw new Error('no head')
  expect(readBody(head, Buffer.from(received))).toEqual({ body: Buffer.from(body), isWhole })
})
