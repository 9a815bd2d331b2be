// One connection to an HTTP server, over which one range at a time is fetched. Bytes of the body go from the kernel straight
// to where the receiver wants them: node:http, which makes a buffer of every 64 KiB and has them copied, took 1.0 s of
// processor for a gigabyte over loopback and this 0.35 s, on the same two cores.
import { connect, type Socket } from 'node:net'
import type { RateLimit } from '../lib/rate-limit.ts'
import {
  type AnswerHead,
  answerHeadBytesMax,
  type ByteRange,
  formatRangeRequest,
  parseAnswerHead,
  parseRetryAfter,
  rangeProblem,
  readBody,
} from '../protocol/http-range.ts'

/** What an answer's body says about an error is quoted up to here. */
const quoteBytesMax = 300

/** Not Found and Gone (RFC 9110, 15.5.5 and 15.5.11). */
const goneStatuses: readonly number[] = [404, 410]

/** Interim answers (1xx) before the one that counts. */
const interimAnswersMax = 4

/** So much is read at once at most, so that other connections have their turn. */
const readBytesMax = 1024 * 1024

export type RangeFault = {
  readonly error: Error
  /** The server asks to be left alone for so long. */
  readonly retryAfterMs: number | undefined
  /** Nothing came on a connection that had served before: the server closed it, being idle, as we asked. */
  readonly isStale: boolean
  /** The server says that it has no such file: asking again helps only if somebody puts it back. */
  readonly isGone: boolean
}

/** Where the bytes of a range go. Called in the order of the bytes; none is called after the connection was closed. */
export interface RangeReceiver {
  /** Memory for the bytes that come next, one at least. */
  into(): Buffer
  /** So many bytes have come, at the beginning of the memory that `into` gave last. */
  onBytes(bytes: number): void
  /** The range is over. Another may be asked for at once, if the connection still `isOpen`. */
  onEnd(): void
  /** The range is over before its end, and the connection with it. */
  onFault(fault: RangeFault): void
}

export class RangeConnection {
  /** False as soon as no range can be asked for any more. */
  isOpen = true
  readonly #socket: Socket
  readonly #url: URL
  readonly #stallMs: number
  readonly #ingress: RateLimit | undefined
  readonly #stop = new AbortController()
  readonly #headMemory = Buffer.allocUnsafeSlow(answerHeadBytesMax)
  readonly #timer: NodeJS.Timeout
  #receiver: RangeReceiver | undefined
  #range: ByteRange | undefined
  #state: 'idle' | 'head' | 'body' | 'quote' = 'idle'
  #headBytes = 0
  #head: AnswerHead | undefined
  /** Bytes of the body still to come. */
  #rest = 0
  #interimAnswers = 0
  #rangesServed = 0
  #isConnected = false
  #isPaused = false

  constructor(options: { url: URL; stallMs: number; ingress?: RateLimit | undefined }) {
    this.#url = options.url
    this.#stallMs = options.stallMs
    this.#ingress = options.ingress
    this.#timer = setTimeout(() => this.#onSilence(), options.stallMs)
    this.#timer.unref()
    this.#socket = connect({
      host: options.url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: Number(options.url.port || 80),
      noDelay: true,
      onread: { buffer: () => this.#memory(), callback: (bytes) => this.#onRead(bytes) },
    })
    this.#socket.on('connect', () => {
      this.#isConnected = true
    })
    this.#socket.on('error', (error) => this.#onLost(error))
    this.#socket.on('end', () => this.#onLost(undefined))
    this.#socket.on('close', () => this.#onLost(undefined))
  }

  /** Asks for a range; only when nothing is under way and the connection is open. */
  ask(range: ByteRange, receiver: RangeReceiver): void {
    this.#range = range
    this.#receiver = receiver
    this.#state = 'head'
    this.#headBytes = 0
    this.#interimAnswers = 0
    this.#head = undefined
    this.#socket.ref()
    this.#timer.refresh()
    this.#socket.write(formatRangeRequest(this.#url, range))
  }

  close(): void {
    this.isOpen = false
    this.#receiver = undefined
    clearTimeout(this.#timer)
    this.#stop.abort()
    this.#socket.destroy()
  }

  /** Where the next read goes. */
  #memory(): Buffer {
    if (this.#state !== 'body' || this.#receiver === undefined) return this.#headMemory.subarray(this.#headBytes)
    return this.#receiver.into().subarray(0, Math.min(this.#rest, readBytesMax))
  }

  /** Returns false to be read from no more until `resume`. */
  #onRead(bytes: number): boolean {
    this.#timer.refresh()
    if (this.#state === 'body') {
      this.#onBody(bytes)
    } else {
      this.#headBytes += bytes
      if (this.#state === 'quote') this.#quote(false)
      else if (this.#state === 'head') this.#onHead()
      else this.#fault('the origin sent bytes that nobody asked for')
    }
    if (this.#ingress === undefined || !this.isOpen) return this.isOpen
    this.#isPaused = true
    this.#ingress.take(bytes, this.#stop.signal).then(
      () => {
        this.#isPaused = false
        this.#timer.refresh()
        this.#socket.resume()
      },
      // Only an abort: the connection was closed.
      () => undefined,
    )
    return false
  }

  #onHead(): void {
    const bytes = this.#headMemory.subarray(0, this.#headBytes)
    let parsed: ReturnType<typeof parseAnswerHead>
    try {
      parsed = parseAnswerHead(bytes)
    } catch (error) {
      this.#fault('the origin cannot be understood', error)
      return
    }
    if (parsed === undefined) {
      if (this.#headBytes === answerHeadBytesMax) this.#fault(`the head is longer than ${answerHeadBytesMax} bytes`)
      return
    }
    const { head, length } = parsed
    // The body that came along moves to the beginning.
    bytes.copyWithin(0, length)
    this.#headBytes -= length
    if (head.status < 200) {
      this.#interimAnswers += 1
      if (this.#interimAnswers > interimAnswersMax)
        this.#fault(`the origin sent ${this.#interimAnswers} interim answers`)
      else if (this.#headBytes > 0) this.#onHead()
      return
    }
    this.#head = head
    this.#judge(head)
  }

  #judge(head: AnswerHead): void {
    const range = this.#range
    if (range === undefined) return
    if (head.status !== 206 && head.status !== 200) {
      this.#state = 'quote'
      this.#quote(false)
      return
    }
    const problem = rangeProblem(head.status, head.headers, range)
    if (problem !== undefined) {
      this.#fault(problem)
      return
    }
    // Without a length the end is known from chunks only, which nobody sends with a range of a file.
    if (head.headers['content-length'] === undefined || head.headers['transfer-encoding'] !== undefined) {
      this.#fault('the origin did not announce how long its answer is')
      return
    }
    this.#rest = range.end - range.start
    this.#state = 'body'
    const early = this.#headBytes
    this.#headBytes = 0
    if (early > this.#rest) {
      this.#fault('the origin sent bytes that nobody asked for')
      return
    }
    for (let at = 0; at < early && this.isOpen; ) {
      const into = this.#memory()
      const copied = this.#headMemory.copy(into, 0, at, early)
      at += copied
      this.#onBody(copied)
    }
  }

  #onBody(bytes: number): void {
    this.#rest -= bytes
    const receiver = this.#receiver
    receiver?.onBytes(bytes)
    // Whoever took the bytes may have closed the connection.
    if (this.#rest > 0 || !this.isOpen) return
    this.#state = 'idle'
    this.#receiver = undefined
    this.#rangesServed += 1
    if (this.#head?.keepsAlive === true) this.#socket.unref()
    else this.close()
    receiver?.onEnd()
  }

  /** Waits for the beginning of an error's body, which says what is wrong. */
  #quote(isEnd: boolean): void {
    const head = this.#head
    if (head === undefined) return
    const { body, isWhole } = readBody(head, this.#headMemory.subarray(0, this.#headBytes))
    if (!isEnd && !isWhole && body.length < quoteBytesMax && this.#headBytes < answerHeadBytesMax) return
    const words = body
      .toString('utf8', 0, quoteBytesMax)
      .replaceAll(/[\s\p{Cc}]+/gu, ' ')
      .trim()
    const { location } = head.headers
    const elsewhere = location === undefined ? '' : ` (to ${location.slice(0, quoteBytesMax)})`
    const said = words === '' ? '' : `: ${words}`
    this.#fault(`the origin answered ${head.status} ${head.reason}${elsewhere}${said}`)
  }

  #onLost(cause: Error | undefined): void {
    if (!this.isOpen) return
    if (this.#state === 'quote') this.#quote(true)
    else if (this.#state === 'body') {
      const length = (this.#range?.end ?? 0) - (this.#range?.start ?? 0)
      this.#fault(`the answer was cut off after ${length - this.#rest} of ${length} bytes`, cause)
    } else if (!this.#isConnected) this.#fault('the origin cannot be connected to', cause)
    else {
      const isStale = this.#rangesServed > 0 && this.#headBytes === 0
      this.#fault('the origin closed the connection and did not answer', cause, isStale)
    }
  }

  #onSilence(): void {
    if (this.#isPaused || this.#state === 'idle') this.#timer.refresh()
    else if (this.#state === 'quote') this.#quote(true)
    else this.#fault(`the origin was silent for ${this.#stallMs} ms`)
  }

  #fault(what: string, cause?: unknown, isStale = false): void {
    const receiver = this.#receiver
    const retryAfterMs = parseRetryAfter(this.#head?.headers['retry-after'], new Date())
    const isGone = this.#head !== undefined && goneStatuses.includes(this.#head.status)
    this.close()
    receiver?.onFault({ error: new Error(what, { cause }), retryAfterMs, isStale, isGone })
  }
}
