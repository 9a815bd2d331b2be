// What one peer has asked of us: requests that can be answered stand in a queue, those of an agent for pieces that we do not
// hold yet are parked until we do. Written only while little waits in the socket, so that a cancel still matters.
import type { Socket } from 'node:net'
import type { RateLimit } from '../lib/rate-limit.ts'
import type { PieceGeometry } from '../model/swarm.ts'
import { type Block, encodePieceHeader } from '../protocol/peer-wire.ts'
import type { PieceReader } from './piece-reader.ts'
import type { StrangerUpload, Uploads } from './upload.ts'

export type UploadLink = {
  readonly geometry: PieceGeometry
  readonly reader: PieceReader
  readonly socket: Socket
  readonly isAgent: boolean
  /** BEP 6: what we do not answer by the piece is answered by a reject. */
  readonly isFast: boolean
  /** Cap of what is sent, as it holds now; undefined: none. */
  readonly egress: () => RateLimit | undefined
  readonly uploads: Uploads
  isInterested(): boolean
  /** We do not have the piece and never shall. */
  isNever(piece: number): boolean
  reject(block: Block): void
  sendChoke(isChoked: boolean): void
}

/** Requests of an agent that are kept, ready and parked; of more, each is rejected. */
const agentRequestsMax = 1024

/** Requests of a stranger that are kept. We tell it fewer (`requestsAdvertised`); who sends more means no good. */
const strangerRequestsMax = 512

/** What we say in the extension handshake. */
export const requestsAdvertised = 500

/** No client asks for more at one time. */
const strangerBlockBytesMax = 128 * 1024

/** What may wait in a socket of ours: two pieces if they are large, so that the link never runs dry between them. */
const backlogBytesMin = 256 * 1024

export class PeerUpload implements StrangerUpload {
  readonly #link: UploadLink
  readonly #backlogBytes: number
  /** By their offset in the whole file, in the order in which they can be answered. */
  readonly #ready = new Map<number, Block>()
  readonly #parked = new Map<number, Block[]>()
  #parkedCount = 0
  #isChoked: boolean
  #isServing = false
  readonly #closing = new AbortController()
  /** A stranger asks for a piece block by block; it is read once. */
  #lastRead: { readonly piece: number; readonly bytes: Buffer } | undefined
  sentBytes = 0

  constructor(link: UploadLink) {
    this.#link = link
    this.#isChoked = !link.isAgent
    this.#backlogBytes = Math.max(backlogBytesMin, 2 * link.geometry.pieceBytes)
    if (!link.isAgent) link.uploads.add(this)
  }

  get isInterested(): boolean {
    return this.#link.isInterested()
  }

  /** Requests that wait for us. */
  get size(): number {
    return this.#ready.size + this.#parkedCount
  }

  setChoked(isChoked: boolean): void {
    if (isChoked === this.#isChoked) return
    this.#isChoked = isChoked
    if (isChoked) {
      const dropped = [...this.#ready.values()]
      this.#ready.clear()
      this.#lastRead = undefined
      for (const block of dropped) this.#reject(block)
    }
    this.#link.sendChoke(isChoked)
  }

  /** Throws for what only who means no good asks. */
  request(block: Block): void {
    const { isAgent, reader } = this.#link
    if (!isAgent && block.length > strangerBlockBytesMax) {
      throw new Error(`a request of ${block.length} bytes, more than ${strangerBlockBytesMax}`)
    }
    const isFull = this.size >= (isAgent ? agentRequestsMax : strangerRequestsMax)
    if (isFull && !isAgent) throw new Error(`more than ${strangerRequestsMax} requests wait`)
    if (this.#isChoked || isFull) this.#reject(block)
    else if (reader.has(block.piece)) {
      this.#ready.set(this.#offset(block), block)
      this.serve()
    } else if (isAgent && !this.#link.isNever(block.piece)) this.#park(block)
    else this.#reject(block)
  }

  cancel(block: Block): void {
    const isReady = this.#ready.delete(this.#offset(block))
    const parked = this.#parked.get(block.piece)
    const at = parked?.findIndex(({ begin }) => begin === block.begin) ?? -1
    if (parked !== undefined && at >= 0) {
      parked.splice(at, 1)
      this.#parkedCount -= 1
      if (parked.length === 0) this.#parked.delete(block.piece)
    }
    if (isReady || at >= 0) this.#reject(block)
  }

  /** We hold these pieces now: who waits for them is answered at once. */
  onHave(pieces: Iterable<number>): void {
    if (this.#parkedCount === 0) return
    for (const piece of pieces) {
      const parked = this.#parked.get(piece)
      if (parked === undefined) continue
      this.#parked.delete(piece)
      this.#parkedCount -= parked.length
      for (const block of parked) this.#ready.set(this.#offset(block), block)
    }
    this.serve()
  }

  serve(): void {
    if (!this.#isServing) void this.#serve()
  }

  close(): void {
    this.#closing.abort(new Error('the connection is closed'))
    this.#ready.clear()
    this.#parked.clear()
    this.#parkedCount = 0
    this.#lastRead = undefined
    if (this.#link.isAgent) this.#link.uploads.setBusy(this, false)
    else this.#link.uploads.remove(this)
  }

  /** Runs without a break where nothing has to be waited for; never rejects. */
  async #serve(): Promise<void> {
    const { isAgent, egress, uploads, socket } = this.#link
    this.#isServing = true
    try {
      for (let block = this.#first(); block !== undefined; block = this.#first()) {
        if (isAgent) uploads.setBusy(this, true)
        // The callback of a write brings us back here.
        if (socket.writableLength >= this.#backlogBytes) break
        if (!isAgent && !uploads.mayServe(this)) break
        await egress()?.take(block.length, this.#closing.signal)
        const bytes = await this.#read(block)
        // In the meantime it may have been taken back, or the connection closed.
        if (this.#ready.get(this.#offset(block)) !== block) continue
        this.#ready.delete(this.#offset(block))
        if (bytes === undefined) this.#reject(block)
        else this.#write(block, bytes)
      }
    } catch {
      // Only the bucket throws, when the connection closes.
    } finally {
      this.#isServing = false
    }
    if (this.#ready.size > 0) return
    this.#lastRead = undefined
    if (isAgent) uploads.setBusy(this, false)
  }

  #park(block: Block): void {
    const parked = this.#parked.get(block.piece) ?? []
    if (parked.some(({ begin }) => begin === block.begin)) return
    parked.push(block)
    this.#parked.set(block.piece, parked)
    this.#parkedCount += 1
  }

  #first(): Block | undefined {
    for (const block of this.#ready.values()) return block
    return undefined
  }

  /** Undefined if the piece cannot be had: it was dropped, or the disk fails; who asked hears of it by a reject. */
  async #read({ piece, begin, length }: Block): Promise<Buffer | undefined> {
    try {
      if (this.#lastRead?.piece !== piece) this.#lastRead = { piece, bytes: await this.#link.reader.read(piece) }
      return this.#lastRead.bytes.subarray(begin, begin + length)
    } catch {
      return undefined
    }
  }

  #write(block: Block, bytes: Buffer): void {
    const { socket, isAgent, uploads } = this.#link
    // Both in one writev.
    socket.cork()
    socket.write(encodePieceHeader(block))
    socket.write(bytes, () => this.serve())
    socket.uncork()
    this.sentBytes += bytes.length
    uploads.countSent(isAgent ? 'agent' : 'stranger', bytes.length)
  }

  #reject(block: Block): void {
    if (this.#link.isFast) this.#link.reject(block)
  }

  #offset({ piece, begin }: Block): number {
    return piece * this.#link.geometry.pieceBytes + begin
  }
}
