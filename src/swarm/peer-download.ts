// What was asked of one peer and what came of it: whole pieces of an agent, blocks of 16 KiB of a stranger, put together in
// one buffer a piece. Sends through the peer; decides nothing about which piece is asked of whom.
import { type PieceGeometry, pieceLength } from '../model/swarm.ts'
import type { Block } from '../protocol/peer-wire.ts'

export type DownloadLink = {
  readonly geometry: PieceGeometry
  readonly isAgent: boolean
  /** BEP 6: what is asked is always answered, by the piece or by a reject. */
  readonly isFast: boolean
  /** How many requests the other keeps in its queue. */
  readonly requestsMax: number
  ask(block: Block): void
  cancel(block: Block): void
  allocate(bytes: number): Buffer
  onPiece(piece: number, bytes: Buffer): void
  onRefused(piece: number): void
}

/** What all clients grant as the length of a block. */
const strangerBlockBytes = 16 * 1024

/** Blocks asked of a stranger at one time: from the one bound to the other, by what it delivers in `depthMs`. */
const depthMin = 8
const depthMax = 128
const depthMs = 1000

/** The rate of a stranger is taken anew over so long. */
const rateWindowMs = 200

/** Blocks taken back that may still arrive; of more than these the oldest count as not asked for. */
const cancelledMax = 4096

type Wanted = {
  readonly piece: number
  readonly length: number
  bytes: Buffer | undefined
  /** Where the next block to be asked for begins. */
  nextBegin: number
  missingBytes: number
}

export class PeerDownload {
  readonly #link: DownloadLink
  readonly #blockBytes: number
  /** In the order in which they were asked for. */
  readonly #wanted = new Map<number, Wanted>()
  /** By their offset in the whole file. */
  readonly #asked = new Map<number, Wanted>()
  readonly #cancelled = new Set<number>()
  /** Where the payload that is coming in goes; no piece: nowhere. */
  #target: { wanted: Wanted | undefined; at: number } = { wanted: undefined, at: 0 }
  #isChoked: boolean
  #depth = depthMin
  #windowAtMs = performance.now()
  #windowBytes = 0

  constructor(link: DownloadLink) {
    this.#link = link
    this.#blockBytes = link.isAgent ? link.geometry.pieceBytes : strangerBlockBytes
    this.#isChoked = !link.isAgent
  }

  /** Pieces asked for that have not come. */
  get size(): number {
    return this.#wanted.size
  }

  request(pieces: readonly number[]): void {
    for (const piece of pieces) {
      if (this.#wanted.has(piece)) continue
      const length = pieceLength(this.#link.geometry, piece)
      this.#wanted.set(piece, { piece, length, bytes: undefined, nextBegin: 0, missingBytes: length })
    }
    this.#ask()
  }

  cancel(piece: number): void {
    const wanted = this.#wanted.get(piece)
    if (wanted === undefined) return
    this.#drop(wanted, 'tell')
    this.#ask()
  }

  /** The other chokes us, or no longer does. Choked without BEP 6, nothing that was asked will come. */
  setChoked(isChoked: boolean): void {
    if (this.#link.isAgent) return
    this.#isChoked = isChoked
    if (!isChoked) this.#ask()
    else if (!this.#link.isFast) {
      for (const wanted of new Set(this.#asked.values())) this.#refuse(wanted)
    }
  }

  onReject({ piece, begin }: Block): void {
    const offset = this.#offset(piece, begin)
    // Answers come in the order of the questions: the one taken back was asked before the one that is open.
    if (this.#cancelled.delete(offset)) return
    const wanted = this.#asked.get(offset)
    if (wanted === undefined) throw new Error(`piece ${piece} was rejected and nobody had asked for it`)
    this.#asked.delete(offset)
    this.#refuse(wanted)
    this.#ask()
  }

  onPieceBegin({ piece, begin, length }: Block): void {
    const offset = this.#offset(piece, begin)
    const wanted = this.#asked.get(offset)
    if (wanted === undefined) {
      if (!this.#cancelled.delete(offset)) {
        throw new Error(`${length} bytes at ${begin} of piece ${piece} came and nobody had asked for them`)
      }
      this.#target = { wanted: undefined, at: 0 }
      return
    }
    if (length !== this.#blockLength(wanted, begin)) {
      throw new Error(`a block of ${length} bytes came where ${this.#blockLength(wanted, begin)} were asked for`)
    }
    this.#asked.delete(offset)
    this.#target = { wanted, at: begin }
    wanted.bytes ??= this.#link.allocate(wanted.length)
  }

  onPieceBytes(bytes: Buffer, isLast: boolean): void {
    const { wanted, at } = this.#target
    this.#windowBytes += bytes.length
    if (wanted?.bytes !== undefined) {
      // The one copy: from the buffer of the socket to that of the piece.
      wanted.bytes.set(bytes, at)
      wanted.missingBytes -= bytes.length
      this.#target.at += bytes.length
    }
    if (!isLast) return
    this.#target = { wanted: undefined, at: 0 }
    this.#deepen()
    if (wanted?.bytes !== undefined && wanted.missingBytes === 0) {
      this.#wanted.delete(wanted.piece)
      this.#link.onPiece(wanted.piece, wanted.bytes)
    }
    this.#ask()
  }

  /** Asks for what fits into the pipeline, in order. */
  #ask(): void {
    if (this.#isChoked) return
    const depth = this.#link.isAgent ? Number.POSITIVE_INFINITY : Math.min(this.#depth, this.#link.requestsMax)
    for (const wanted of this.#wanted.values()) {
      while (wanted.nextBegin < wanted.length) {
        if (this.#asked.size >= depth) return
        const begin = wanted.nextBegin
        const length = this.#blockLength(wanted, begin)
        this.#asked.set(this.#offset(wanted.piece, begin), wanted)
        wanted.nextBegin += length
        this.#link.ask({ piece: wanted.piece, begin, length })
      }
    }
  }

  #refuse(wanted: Wanted): void {
    this.#drop(wanted, this.#isChoked && !this.#link.isFast ? 'known' : 'tell')
    this.#link.onRefused(wanted.piece)
  }

  /** Forgets a piece. `known`: the other has forgotten its questions by itself. */
  #drop(wanted: Wanted, telling: 'tell' | 'known'): void {
    this.#wanted.delete(wanted.piece)
    if (this.#target.wanted === wanted) this.#target.wanted = undefined
    for (let begin = 0; begin < wanted.nextBegin; begin += this.#blockBytes) {
      const offset = this.#offset(wanted.piece, begin)
      if (!this.#asked.delete(offset)) continue
      this.#forget(offset)
      if (telling === 'tell') {
        this.#link.cancel({ piece: wanted.piece, begin, length: this.#blockLength(wanted, begin) })
      }
    }
  }

  #forget(offset: number): void {
    if (this.#cancelled.size >= cancelledMax) {
      for (const oldest of this.#cancelled) {
        this.#cancelled.delete(oldest)
        break
      }
    }
    this.#cancelled.add(offset)
  }

  /** Grows the pipeline with what the stranger delivers. */
  #deepen(): void {
    const elapsedMs = performance.now() - this.#windowAtMs
    if (elapsedMs < rateWindowMs && this.#windowBytes < depthMax * strangerBlockBytes) return
    const blocks = (this.#windowBytes / Math.max(1, elapsedMs)) * (depthMs / strangerBlockBytes)
    this.#depth = Math.min(depthMax, Math.max(depthMin, Math.ceil(blocks)))
    this.#windowAtMs += elapsedMs
    this.#windowBytes = 0
  }

  #blockLength(wanted: Wanted, begin: number): number {
    return Math.min(this.#blockBytes, wanted.length - begin)
  }

  #offset(piece: number, begin: number): number {
    return piece * this.#link.geometry.pieceBytes + begin
  }
}
