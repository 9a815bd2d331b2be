// A web seed (BEP 19): pieces of image.zst by HTTP range requests from the origin or a mirror, which holds all of them. What
// goes wrong there costs the pieces at stake and a pause; whether they are asked for again, and where, others decide.
import type { RateLimit } from '../lib/rate-limit.ts'
import { type PieceGeometry, pieceCount, pieceLength } from '../model/swarm.ts'
import type { PieceSource, PieceSourceEvents } from './piece-source.ts'
import { RangeConnection, type RangeFault, type RangeReceiver } from './range-connection.ts'

export type WebSeedLimits = {
  /** An answer that brings no byte for so long is given up. */
  readonly stallMs: number
  /** The pause after a fault; it doubles with each fault in a row, up to `pauseMsMax`. */
  readonly pauseMs: number
  readonly pauseMsMax: number
  /** A server that names a time is left alone so long at most. */
  readonly retryAfterMsMax: number
}

const webSeedLimits: WebSeedLimits = { stallMs: 10_000, pauseMs: 250, pauseMsMax: 10_000, retryAfterMsMax: 60_000 }

/** One request asks for so much at most: at 1 GB/s that is 60 requests a second, and so much is in doubt when it fails. */
const rangeBytesMax = 16 * 1024 * 1024

/** The next range is asked for when the rest of the one under way lasts so long at the rate seen: many round trips. */
const aheadMs = 300
const aheadBytesMin = 64 * 1024

/** The rate is averaged over so long and more. */
const rateMs = 250

/** A rest that nobody wants is read to its end when it is so short: a new connection would cost more. */
const drainBytesMax = 256 * 1024

export type WebSeedStatus = {
  /** False while it pauses after a fault. What is asked of it then waits for the end of the pause. */
  readonly isWell: boolean
  readonly bytesReceived: number
  readonly bytesPerSecond: number
  readonly faultsInARow: number
  readonly lastError: Error | undefined
  /** The last thing it said is that it has no such file. */
  readonly isGone: boolean
}

export class WebSeed implements PieceSource {
  readonly kind = 'web-seed'
  readonly id: string
  readonly #url: URL
  readonly #events: PieceSourceEvents
  readonly #geometry: PieceGeometry
  readonly #limits: WebSeedLimits
  readonly #connectionsMax: number
  readonly #ingress: RateLimit | undefined
  readonly #random: () => number
  readonly #onStatus: (() => void) | undefined
  /** Asked and not begun, in this order. The owner bounds it: it asks for no piece twice. */
  readonly #waiting = new Set<number>()
  readonly #idle = new Set<RangeConnection>()
  readonly #underWay = new Set<RangeFetch>()
  #isClosed = false
  #isBeginning = false
  #pause: NodeJS.Timeout | undefined
  #bytesReceived = 0
  #faultsInARow = 0
  #staleInARow = 0
  #lastError: Error | undefined
  #isGone = false
  #bytesPerSecond = 0
  #rateSince = performance.now()
  #rateBytes = 0

  /** Throws when the URL is none of HTTP or holds a password. Connects when the first piece is asked for. */
  constructor(
    events: PieceSourceEvents,
    options: {
      readonly url: string
      readonly geometry: PieceGeometry
      readonly connections?: number
      readonly limits?: Partial<WebSeedLimits>
      readonly ingress?: RateLimit | undefined
      /** Spreads the pauses of many agents; from 0 to 1. */
      readonly random?: () => number
      /** `status().isWell` has changed. */
      readonly onStatus?: () => void
    },
  ) {
    this.#url = new URL(options.url)
    if (this.#url.protocol !== 'http:' || this.#url.username !== '' || this.#url.password !== '') {
      throw new Error(`a web seed is an http URL without a password, this one begins ${this.#url.protocol}`)
    }
    this.id = options.url
    this.#events = events
    this.#geometry = options.geometry
    this.#limits = { ...webSeedLimits, ...options.limits }
    this.#connectionsMax = options.connections ?? 2
    this.#ingress = options.ingress
    this.#random = options.random ?? Math.random
    this.#onStatus = options.onStatus
  }

  request(pieces: readonly number[]): void {
    if (this.#isClosed) return
    for (const piece of pieces) {
      if (!(piece >= 0 && piece < pieceCount(this.#geometry))) throw new RangeError(`there is no piece ${piece}`)
      if (![...this.#underWay].some((fetch) => fetch.wantAgain(piece))) this.#waiting.add(piece)
    }
    this.#beginSoon()
  }

  /** A piece not begun is not fetched; a range under way ends where nothing behind is wanted. */
  cancel(piece: number): void {
    if (this.#waiting.delete(piece)) return
    for (const fetch of this.#underWay) if (fetch.cancel(piece)) return
  }

  status(): WebSeedStatus {
    return {
      isWell: this.#pause === undefined,
      bytesReceived: this.#bytesReceived,
      bytesPerSecond: performance.now() - this.#rateSince > 10 * rateMs ? 0 : this.#bytesPerSecond,
      faultsInARow: this.#faultsInARow,
      lastError: this.#lastError,
      isGone: this.#isGone,
    }
  }

  close(reason?: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearTimeout(this.#pause)
    this.#waiting.clear()
    for (const { connection } of this.#underWay) connection.close()
    for (const connection of this.#idle) connection.close()
    this.#underWay.clear()
    this.#idle.clear()
    this.#events.onClosed(this, reason)
  }

  /** A little later, so that pieces asked for one by one become one range, and never inside of an event. */
  #beginSoon(): void {
    if (this.#isBeginning || this.#isClosed) return
    this.#isBeginning = true
    queueMicrotask(() => {
      this.#isBeginning = false
      while (this.#mayBegin()) this.#begin(this.#takeRun())
    })
  }

  #mayBegin(): boolean {
    if (this.#isClosed || this.#pause !== undefined || this.#waiting.size === 0) return false
    if (this.#underWay.size >= this.#connectionsMax) return false
    const [oldest] = this.#underWay
    if (oldest === undefined) return true
    // One range beside it, and no third one before it is over: two connections do not share a link evenly, and all hosts
    // wait for the pieces of the slower one.
    if (oldest.isFollowed) return false
    const aheadBytes = Math.max(aheadBytesMin, (this.#bytesPerSecond * aheadMs) / 1000)
    return oldest.restBytes <= Math.min(aheadBytes, rangeBytesMax)
  }

  /** The pieces from the first that waits on, as long as each follows the other. */
  #takeRun(): { first: number; last: number } {
    let first: number | undefined
    let last = 0
    let bytes = 0
    for (const piece of this.#waiting) {
      bytes += pieceLength(this.#geometry, piece)
      if (first === undefined) first = piece
      else if (piece !== last + 1 || bytes > rangeBytesMax) break
      last = piece
      this.#waiting.delete(piece)
    }
    return { first: first ?? 0, last }
  }

  #begin({ first, last }: { first: number; last: number }): void {
    const [idle] = this.#idle
    if (idle !== undefined) this.#idle.delete(idle)
    const connection =
      idle?.isOpen === true
        ? idle
        : new RangeConnection({ url: this.#url, stallMs: this.#limits.stallMs, ingress: this.#ingress })
    const fetch = new RangeFetch(connection, this.#geometry, first, last, {
      onBytes: (bytes) => this.#onBytes(bytes),
      onPiece: (piece, bytes) => this.#events.onPiece(this, piece, bytes),
      onOver: (fault) => this.#onOver(fetch, fault),
    })
    for (const before of this.#underWay) before.isFollowed = true
    this.#underWay.add(fetch)
    fetch.start()
  }

  #onBytes(bytes: number): void {
    this.#bytesReceived += bytes
    this.#rateBytes += bytes
    this.#staleInARow = 0
    const now = performance.now()
    const passedMs = now - this.#rateSince
    if (passedMs >= rateMs) {
      const rate = (this.#rateBytes / passedMs) * 1000
      // After a time without requests the old rate says nothing.
      this.#bytesPerSecond = passedMs > 10 * rateMs ? this.#bytesPerSecond : (this.#bytesPerSecond + rate) / 2
      this.#rateBytes = 0
      this.#rateSince = now
    }
    this.#events.onBytes(this, bytes)
    if (this.#mayBegin()) this.#beginSoon()
  }

  /** A range has come whole, as far as it was wanted, or failed. */
  #onOver(fetch: RangeFetch, fault: RangeFault | undefined): void {
    this.#underWay.delete(fetch)
    if (this.#isClosed) return
    this.#isGone = fault?.isGone === true
    if (fault === undefined) {
      if (fetch.restBytes === 0) this.#faultsInARow = 0
      if (fetch.connection.isOpen) this.#idle.add(fetch.connection)
      this.#beginSoon()
      return
    }
    const atStake = fetch.missing()
    if (fault.isStale && this.#staleInARow <= this.#connectionsMax) {
      // The server closed a connection that had been idle, as it may; that is no fault.
      this.#staleInARow += 1
      const waiting = [...this.#waiting]
      this.#waiting.clear()
      for (const piece of [...atStake, ...waiting]) this.#waiting.add(piece)
      this.#beginSoon()
      return
    }
    this.#lastError = new Error(`pieces ${fetch.first} to ${fetch.last} of ${this.#url.href}: ${fault.error.message}`, {
      cause: fault.error.cause,
    })
    this.#pauseAfter(fault)
    // What waits is given back too: others may have it before the pause is over.
    const refused = [...atStake, ...this.#waiting]
    this.#waiting.clear()
    for (const piece of refused) this.#events.onRefused(this, piece)
  }

  #pauseAfter(fault: RangeFault): void {
    const { pauseMs, pauseMsMax, retryAfterMsMax } = this.#limits
    // Two connections that are lost at once are one fault.
    if (this.#pause !== undefined) return
    const backOffMs = Math.min(pauseMsMax, pauseMs * 2 ** Math.min(this.#faultsInARow, 16))
    this.#faultsInARow += 1
    const namedMs = Math.min(retryAfterMsMax, fault.retryAfterMs ?? 0)
    this.#pause = setTimeout(
      () => {
        this.#pause = undefined
        this.#onStatus?.()
        this.#beginSoon()
      },
      Math.max(namedMs, backOffMs * (0.5 + this.#random() / 2)),
    )
    this.#onStatus?.()
  }
}

type FetchEvents = {
  readonly onBytes: (bytes: number) => void
  readonly onPiece: (piece: number, bytes: Buffer) => void
  readonly onOver: (fault: RangeFault | undefined) => void
}

/** One range on its way: fills one piece after the other and hands over those that are still wanted. */
class RangeFetch implements RangeReceiver {
  readonly connection: RangeConnection
  readonly first: number
  readonly last: number
  restBytes: number
  /** The range after it is asked for. */
  isFollowed = false
  readonly #geometry: PieceGeometry
  readonly #seed: FetchEvents
  readonly #unwanted = new Set<number>()
  #piece: number
  /** Of the piece being filled; undefined before its first byte. */
  #memory: Buffer | undefined
  #filledBytes = 0

  constructor(connection: RangeConnection, geometry: PieceGeometry, first: number, last: number, seed: FetchEvents) {
    this.connection = connection
    this.first = first
    this.last = last
    this.#piece = first
    this.#geometry = geometry
    this.#seed = seed
    this.restBytes = (last - first) * geometry.pieceBytes + pieceLength(geometry, last)
  }

  start(): void {
    const start = this.first * this.#geometry.pieceBytes
    const range = { start, end: start + this.restBytes, totalBytes: this.#geometry.totalBytes }
    this.connection.ask(range, this)
  }

  /** True when the piece is of this range and still to come. */
  cancel(piece: number): boolean {
    if (!this.#isToCome(piece)) return false
    this.#unwanted.add(piece)
    this.#endEarly()
    return true
  }

  /** True when the piece is on its way here, be it that it was cancelled before. */
  wantAgain(piece: number): boolean {
    if (!this.#isToCome(piece)) return false
    this.#unwanted.delete(piece)
    return true
  }

  /** The pieces still wanted and not here. */
  missing(): number[] {
    const toCome = Array.from({ length: this.last - this.#piece + 1 }, (_, index) => this.#piece + index)
    return toCome.filter((piece) => !this.#unwanted.has(piece))
  }

  into(): Buffer {
    // Pieces that nobody wants are filled too, were it only that they are wanted again before they are whole.
    this.#memory ??= Buffer.allocUnsafeSlow(pieceLength(this.#geometry, this.#piece))
    return this.#memory.subarray(this.#filledBytes)
  }

  onBytes(bytes: number): void {
    this.restBytes -= bytes
    this.#filledBytes += bytes
    const memory = this.#memory
    const piece = this.#piece
    const isWhole = memory !== undefined && this.#filledBytes === memory.length
    if (isWhole) {
      this.#piece += 1
      this.#memory = undefined
      this.#filledBytes = 0
    }
    this.#seed.onBytes(bytes)
    if (!isWhole) return
    if (!this.#unwanted.has(piece)) this.#seed.onPiece(piece, memory)
    this.#endEarly()
  }

  onEnd(): void {
    this.#seed.onOver(undefined)
  }

  onFault(fault: RangeFault): void {
    this.#seed.onOver(fault)
  }

  #isToCome(piece: number): boolean {
    return piece >= this.#piece && piece <= this.last
  }

  /** Gives the connection up when nothing more is wanted of it and much would still come. */
  #endEarly(): void {
    if (this.#unwanted.size === 0 || this.restBytes <= drainBytesMax || !this.connection.isOpen) return
    if (this.missing().length > 0) return
    this.connection.close()
    this.#seed.onOver(undefined)
  }
}
