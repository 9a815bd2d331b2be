// The origin, asked by HTTP range requests (RFC 9110, section 14). Retries here and nowhere above: an origin that cannot
// be reached is waited for, since services restart and cables move; one that answers wrongly is asked a few times more.
import { Agent, type IncomingMessage, request } from 'node:http'
import pRetry from 'p-retry'
import { manifestBytesMax, parseManifest } from '../image/manifest.ts'
import { TokenBucket } from '../lib/rate-limit.ts'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import { rangeProblem } from '../protocol/http-range.ts'
import type { Log } from './log.ts'

export type OriginLimits = {
  /** A connection that is silent for so long is given up and the request made anew. */
  readonly stallMs: number
  /** So long without any frame done, and the origin counts as unreachable. */
  readonly noProgressMs: number
  /** So many wrong answers to one request, one after the other, and the origin counts as broken. */
  readonly wrongAnswersMax: number
  /** The first pause between two tries; it doubles up to `pauseMsMax`. */
  readonly pauseMs: number
  readonly pauseMsMax: number
}

export const originLimits: OriginLimits = {
  stallMs: 15_000,
  noProgressMs: 600_000,
  wrongAnswersMax: 8,
  pauseMs: 250,
  pauseMsMax: 5_000,
}

/** A corrupt answer is fetched so often again: a bit that flipped on the way is right the next time. */
export const refetchesMax = 2

/** What an answer's body says about an error is quoted up to here. */
const quoteBytesMax = 300

/** The origin answered, and wrongly; everything else that goes wrong counts as unreachable. */
class WrongAnswer extends Error {}

export class Origin {
  /** Bytes that were received whole, the refetched ones among them: documents, and ranges of files. */
  documentBytes = 0
  rangeBytes = 0
  readonly #agent: Agent
  readonly #limits: OriginLimits
  readonly #log: Log
  readonly #ingress: TokenBucket | undefined
  #progressAt = performance.now()

  /** `ingressBytesPerSecond`: what ranges may bring a second, all told; without it there is no limit. */
  constructor(options: {
    connections: number
    limits: OriginLimits
    log: Log
    ingressBytesPerSecond?: number | undefined
  }) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: options.connections })
    this.#limits = options.limits
    this.#log = options.log
    const { ingressBytesPerSecond } = options
    if (ingressBytesPerSecond === undefined) return
    this.#ingress = new TokenBucket({ bytesPerSecond: ingressBytesPerSecond, burstBytes: ingressBytesPerSecond })
  }

  close(): void {
    this.#agent.destroy()
  }

  /** Says that something was achieved: the origin has `noProgressMs` again. */
  progressed(): void {
    this.#progressAt = performance.now()
  }

  /** Fetches and checks a manifest. Throws Failure `origin-unreachable`, `origin-error` or `image-corrupt`. */
  async fetchManifest(url: string, digest: string, signal: AbortSignal): Promise<Manifest> {
    for (let fetches = 1; ; fetches++) {
      const bytes = await this.fetchDocument(`the manifest ${url}`, url, manifestBytesMax, signal)
      try {
        return parseManifest(bytes, digest)
      } catch (error) {
        if (fetches > refetchesMax) throw corrupt(`the manifest ${url} is corrupt, fetched ${fetches} times`, error)
        this.#log.failure(`the manifest is corrupt, fetching it again (${fetches} of ${refetchesMax})`, error)
      }
    }
  }

  /** Fetches a file of at most `sizeBytesMax` whole. Throws Failure `origin-unreachable` or `origin-error`. */
  fetchDocument(what: string, url: string, sizeBytesMax: number, signal: AbortSignal): Promise<Buffer> {
    return this.#retried(what, signal, () => this.#fetchWhole(url, sizeBytesMax, signal))
  }

  /**
   * Fetches bytes `offset` to `offset + into.length` of a file of `totalBytes`, filling `into`.
   * Throws Failure `origin-unreachable` or `origin-error`.
   */
  async fetchRange(url: string, offset: number, totalBytes: number, into: Buffer, signal: AbortSignal): Promise<void> {
    const what = `bytes ${offset} to ${offset + into.length} of ${url}`
    await this.#retried(what, signal, async () => {
      // Before it is asked for and not while it comes: a connection that is slowed down looks like one that is stuck.
      await this.#ingress?.take(into.length, signal)
      const range = { start: offset, end: offset + into.length, totalBytes }
      const asked = `bytes=${range.start}-${range.end - 1}`
      const answer = await this.#ask(url, { range: asked, 'accept-encoding': 'identity' }, signal)
      const { statusCode: status, headers } = answer
      const isContent = status === 200 || status === 206
      const problem = isContent ? rangeProblem(status, headers, range) : await quote(answer)
      if (problem !== undefined) {
        answer.destroy()
        throw new WrongAnswer(problem)
      }
      let received = 0
      await readBody(answer, (chunk) => {
        if (received + chunk.length > into.length)
          throw new WrongAnswer(`the origin sent more than ${into.length} bytes`)
        received += chunk.copy(into, received)
      })
      if (received < into.length) {
        throw new WrongAnswer(`the origin sent ${received} of ${into.length} bytes and ended the answer`)
      }
      this.rangeBytes += received
    })
  }

  /**
   * Fetches what can also be had otherwise: asked for once, and what goes wrong is the caller's to mend. Throws whatever that was.
   */
  async fetchOnce(url: string, sizeBytesMax: number, signal: AbortSignal): Promise<Buffer> {
    const bytes = await this.#fetchBody(url, sizeBytesMax, signal)
    await this.#ingress?.take(bytes.length, signal)
    this.progressed()
    return bytes
  }

  async #fetchWhole(url: string, sizeBytesMax: number, signal: AbortSignal): Promise<Buffer> {
    const bytes = await this.#fetchBody(url, sizeBytesMax, signal)
    this.documentBytes += bytes.length
    return bytes
  }

  async #fetchBody(url: string, sizeBytesMax: number, signal: AbortSignal): Promise<Buffer> {
    const answer = await this.#ask(url, { 'accept-encoding': 'identity' }, signal)
    if (answer.statusCode !== 200) throw new WrongAnswer(await quote(answer))
    const chunks: Buffer[] = []
    let received = 0
    await readBody(answer, (chunk) => {
      received += chunk.length
      if (received > sizeBytesMax) throw new WrongAnswer(`the answer is longer than ${sizeBytesMax} bytes`)
      chunks.push(chunk)
    })
    return Buffer.concat(chunks)
  }

  /** Makes the request; resolves with the head of the answer. */
  #ask(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      // `timeout` here, not setTimeout on the request, because it covers connecting too.
      const asked = request(url, { agent: this.#agent, headers, signal, timeout: this.#limits.stallMs })
      let answer: IncomingMessage | undefined
      asked.on('response', (head) => {
        answer = head
        resolve(head)
      })
      asked.on('error', reject)
      asked.on('timeout', () => {
        const silence = new Error(`the origin was silent for ${this.#limits.stallMs} ms`)
        // The answer first: destroying the request would end it as if the origin had cut it off.
        answer?.destroy(silence)
        asked.destroy(silence)
      })
      asked.end()
    })
  }

  async #retried<T>(what: string, signal: AbortSignal, fetch: () => Promise<T>): Promise<T> {
    const { pauseMs, pauseMsMax, wrongAnswersMax, noProgressMs } = this.#limits
    let wrongAnswers = 0
    let failingSince: number | undefined
    const isHopeless = () => performance.now() - Math.max(this.#progressAt, failingSince ?? 0) >= noProgressMs
    try {
      return await pRetry(fetch, {
        signal,
        retries: Number.POSITIVE_INFINITY,
        minTimeout: pauseMs,
        maxTimeout: pauseMsMax,
        randomize: true,
        shouldRetry: ({ error, attemptNumber, retryDelay }) => {
          failingSince ??= performance.now()
          wrongAnswers = error instanceof WrongAnswer ? wrongAnswers + 1 : wrongAnswers
          if (wrongAnswers >= wrongAnswersMax || isHopeless()) return false
          this.#log.failure(`try ${attemptNumber} of ${what} failed, again in ${Math.round(retryDelay)} ms`, error)
          return true
        },
      })
    } catch (cause) {
      signal.throwIfAborted()
      if (cause instanceof WrongAnswer && wrongAnswers >= wrongAnswersMax) {
        throw new Failure('origin-error', `fetch ${what}: ${wrongAnswers} wrong answers`, { cause })
      }
      // Node says so of an address that it cannot ask at all, and p-retry does not repeat it.
      if (cause instanceof TypeError) throw new Failure('origin-error', `fetch ${what}: it cannot be asked`, { cause })
      throw new Failure('origin-unreachable', `fetch ${what}: nothing for ${noProgressMs / 1000} s`, { cause })
    }
  }
}

export function corrupt(what: string, cause: unknown): Failure {
  return new Failure('image-corrupt', what, { cause })
}

/** The answer in words: its status and the beginning of its body. Ends the answer. */
async function quote(answer: IncomingMessage): Promise<string> {
  let body = ''
  await readBody(answer, (chunk) => {
    body += chunk.toString('utf8')
    if (body.length > quoteBytesMax) answer.destroy()
  }).catch(() => undefined)
  const words = body.slice(0, quoteBytesMax).replaceAll(/\s+/g, ' ').trim()
  return `the origin answered ${answer.statusCode} ${answer.statusMessage}${words === '' ? '' : `: ${words}`}`
}

/**
 * Gives each chunk to `take`; resolves at the end of the body. A body cut off is the origin's wrong answer: a server or
 * proxy that always cuts at the same byte would otherwise be waited for until the deadline.
 */
async function readBody(answer: IncomingMessage, take: (chunk: Buffer) => void): Promise<void> {
  let received = 0
  await new Promise<void>((resolve, reject) => {
    answer.on('data', (chunk: Buffer) => {
      received += chunk.length
      try {
        take(chunk)
      } catch (error) {
        // Rejected first: destroying the answer would reject with a less telling error.
        reject(error)
        answer.destroy()
      }
    })
    answer.on('end', resolve)
    answer.on('error', (cause: NodeJS.ErrnoException) => {
      const isCut = cause.code === 'ECONNRESET'
      reject(isCut ? new WrongAnswer(`the answer was cut off after ${received} bytes`, { cause }) : cause)
    })
    answer.on('close', () => reject(new WrongAnswer(`the answer was cut off after ${received} bytes`)))
  })
}
