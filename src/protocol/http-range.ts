// HTTP/1.1 range requests and the heads of their answers (RFC 9110 section 14, RFC 9112), as a client needs them that
// fetches one range at a time. No sockets; the body is the caller's.

/** A whole head; servers send a few hundred bytes. */
export const answerHeadBytesMax = 16 * 1024

/** Bytes `start` to `end`, the latter not among them, of a file of `totalBytes`. */
export type ByteRange = { readonly start: number; readonly end: number; readonly totalBytes: number }

export type AnswerHead = {
  readonly status: number
  readonly reason: string
  /** By lower-case name; fields that came several times are joined by commas. */
  readonly headers: Readonly<Record<string, string | undefined>>
  /** Another request may follow on this connection when the body is over. */
  readonly keepsAlive: boolean
}

/** The request for a range, to be sent as it is. */
export function formatRangeRequest(url: URL, range: ByteRange): string {
  // The parser of URLs has percent-encoded whatever could end a line.
  const lines = [
    `GET ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    `Range: bytes=${range.start}-${range.end - 1}`,
    'Accept-Encoding: identity',
    'User-Agent: hades',
  ]
  return `${lines.join('\r\n')}\r\n\r\n`
}

/**
 * Reads the head of an answer at the beginning of `bytes`; undefined when it is not whole yet. `length` is where the body
 * begins. Throws when it is no HTTP/1 answer. An interim answer (1xx) is an answer too, without a body.
 */
export function parseAnswerHead(bytes: Buffer): { readonly head: AnswerHead; readonly length: number } | undefined {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) {
    if (!'HTTP/1.'.startsWith(bytes.toString('latin1', 0, 7))) throw notHttp(bytes)
    return undefined
  }
  const [statusLine = '', ...fields] = bytes.toString('latin1', 0, end).split('\r\n')
  const match = /^HTTP\/1\.([01]) ([1-5][0-9]{2})(?: (.*))?$/.exec(statusLine)
  if (match === null) throw notHttp(bytes)
  const headers: Record<string, string | undefined> = Object.create(null)
  for (const field of fields) {
    const colon = field.indexOf(':')
    const name = field.slice(0, colon).toLowerCase()
    if (colon < 1 || !/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) {
      throw new Error(`the answer has the header line ${JSON.stringify(field.slice(0, 100))}`)
    }
    const value = field.slice(colon + 1).trim()
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  const [, minor, status, reason = ''] = match
  const { connection = '' } = headers
  const options = connection.toLowerCase().split(/\s*,\s*/)
  const keepsAlive = minor === '1' ? !options.includes('close') : options.includes('keep-alive')
  return { head: { status: Number(status), reason, headers, keepsAlive }, length: end + 4 }
}

function notHttp(bytes: Buffer): Error {
  return new Error(`the answer is no HTTP/1: it begins ${JSON.stringify(bytes.toString('latin1', 0, 40))}`)
}

/** The body of an answer, as far as `received` goes: all that came after the head. */
export function readBody(head: AnswerHead, received: Buffer): { readonly body: Buffer; readonly isWhole: boolean } {
  const { 'content-length': announced, 'transfer-encoding': encoding } = head.headers
  if (head.status === 204 || head.status === 304) return { body: received.subarray(0, 0), isWhole: true }
  if (encoding?.toLowerCase() === 'chunked') return readChunks(received)
  // Without a length the body lasts as long as the connection.
  const length = announced === undefined ? Number.POSITIVE_INFINITY : Number(announced)
  return { body: received.subarray(0, length), isWhole: received.length >= length }
}

/** RFC 9112, 7.1. What is no chunk ends the body. */
function readChunks(received: Buffer): { readonly body: Buffer; readonly isWhole: boolean } {
  const chunks: Buffer[] = []
  for (let at = 0; ; ) {
    const end = received.indexOf('\r\n', at)
    const sizeText = received.toString('latin1', at, end)
    const size = end < 0 ? undefined : Number.parseInt(sizeText, 16)
    if (size === undefined) return { body: Buffer.concat(chunks), isWhole: false }
    if (!(size > 0)) return { body: Buffer.concat(chunks), isWhole: true }
    chunks.push(received.subarray(end + 2, end + 2 + size))
    at = end + 2 + size + 2
    if (at > received.length) return { body: Buffer.concat(chunks), isWhole: false }
  }
}

/** What is wrong with an answer of status 206 or 200 to a request for `range`; undefined when it is what was asked. */
export function rangeProblem(
  status: number,
  headers: {
    readonly 'content-range'?: string | undefined
    readonly 'content-length'?: string | undefined
    readonly 'content-encoding'?: string | undefined
  },
  range: ByteRange,
): string | undefined {
  if (status === 200) return 'the origin ignored the Range header: it answered 200 with the whole file'
  const { 'content-range': given, 'content-length': size, 'content-encoding': encoding } = headers
  const wanted = `bytes ${range.start}-${range.end - 1}/${range.totalBytes}`
  const length = range.end - range.start
  if (given !== wanted) return `the origin answered Content-Range ${given ?? '(none)'}, asked was ${wanted}`
  if (encoding !== undefined && encoding !== 'identity') return `the origin answered in Content-Encoding ${encoding}`
  if (size !== undefined && size !== String(length)) return `the origin announced ${size} bytes, asked were ${length}`
  return undefined
}

/** Milliseconds that a Retry-After header (RFC 9110, 10.2.3) asks to wait; undefined when it says nothing. */
export function parseRetryAfter(value: string | undefined, now: Date): number | undefined {
  if (value === undefined) return undefined
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.max(0, at - now.getTime())
}
