// An agent's pieces: in memory within a budget, beyond it in the spill area or forgotten. It takes verified pieces only,
// and its owner says what the disk's writer is done with and what the neighbours still lack.
import { type PieceGeometry, pieceCount, pieceLength } from '../model/swarm.ts'
import { emptyBitfield, hasBit, setBit } from '../protocol/bitfield.ts'
import { planRelief } from './piece-budget.ts'
import type { PieceReader } from './piece-reader.ts'
import { type SpillArea, SpilledPieces } from './spill-area.ts'

/** A smaller budget could not hold the pieces of two frames and what is under way. */
const budgetPiecesMin = 8

/** Pieces begin to leave when so much of the budget is used, and go on leaving until it is the lower mark. */
const fullMark = 7 / 8
const relievedMark = 3 / 4

/** Of the budget, what the disk's writer may be behind before no more is asked for, and before it is again. */
const behindMark = 1 / 2
const caughtUpMark = 3 / 8

/** Every look at all pieces must be paid for by so much of the budget that came in since the last. */
const lookAgainPart = 1 / 32

export type PieceStoreOwner = {
  /** Whether any neighbour still lacks this piece. Asked often; must be quick. */
  readonly stillWanted: (piece: number) => boolean
  /** The store has this piece no longer. One that was not written (only the spill area can lose it) must be got again. */
  readonly onDropped: (piece: number) => void
  /** More may be asked for again, after `room` was false. */
  readonly onRoom?: () => void
  /** The spill area failed to write. Said once; the store goes on without it. */
  readonly onSpillFailed: (error: Error) => void
}

export type PieceStoreCounters = {
  readonly ramBytes: number
  /** Of `ramBytes`, what the agent still has a use for itself. */
  readonly unwrittenBytes: number
  readonly spilledBytes: number
  readonly droppedPieces: number
  readonly readsFromSpill: number
}

export class PieceStore implements PieceReader {
  /** What may be in memory: what was asked for, or eight pieces if that is more. */
  readonly budgetBytes: number
  readonly #geometry: PieceGeometry
  readonly #owner: PieceStoreOwner
  readonly #spilled: SpilledPieces | undefined
  readonly #ram: (Buffer | undefined)[]
  readonly #isWritten: Uint8Array
  readonly #field: Buffer
  #ramBytes = 0
  /** Bytes of pieces in memory that are not written. */
  #unwrittenBytes = 0
  /** Bytes of written pieces whose way to the spill area has begun: memory that is not free before it ends. */
  #leavingBytes = 0
  #droppedPieces = 0
  #readsFromSpill = 0
  #hasRoom = true
  #isClosing = false
  /** Pieces to be spilled, the next first. */
  #toSpill: number[] = []
  /** With so much in memory it is looked again what can leave. */
  #lookAtBytes: number

  constructor(options: {
    readonly geometry: PieceGeometry
    readonly budgetBytes: number
    readonly owner: PieceStoreOwner
    readonly spillArea?: SpillArea | undefined
  }) {
    const { geometry, owner, spillArea } = options
    const pieces = pieceCount(geometry)
    this.budgetBytes = Math.max(options.budgetBytes, budgetPiecesMin * geometry.pieceBytes)
    this.#geometry = geometry
    this.#owner = owner
    this.#ram = Array.from({ length: pieces }, () => undefined)
    this.#isWritten = new Uint8Array(pieces)
    this.#field = emptyBitfield(pieces)
    this.#lookAtBytes = fullMark * this.budgetBytes
    this.#spilled =
      spillArea && new SpilledPieces(spillArea, geometry.pieceBytes, (error) => owner.onSpillFailed(error))
  }

  /**
   * Takes a verified piece, whose bytes now belong to the store. False when there is no memory for it: then it was not
   * taken and must be got again, which happens only to who asked for much more than `roomBytes`.
   */
  put(piece: number, bytes: Buffer): boolean {
    const length = pieceLength(this.#geometry, piece)
    if (!(piece >= 0 && piece < this.#ram.length) || bytes.length !== length) {
      throw new RangeError(`piece ${piece} of ${this.#ram.length} has ${length} bytes and not ${bytes.length}`)
    }
    if (this.has(piece)) return true
    const isNew = this.#isWritten[piece] === 0
    // What cannot leave at once, and of this piece what could not either.
    const stuck = this.#unwrittenBytes + this.#leavingBytes + (isNew ? length : 0)
    if (stuck > this.budgetBytes) return false
    this.#ram[piece] = bytes
    this.#ramBytes += length
    if (isNew) this.#unwrittenBytes += length
    setBit(this.#field, piece, true)
    this.#tellRoom()
    if (this.#ramBytes > Math.min(this.#lookAtBytes, this.budgetBytes)) this.#relieve()
    return true
  }

  /** The agent has no more use for this piece itself. */
  written(piece: number): void {
    if (this.#isWritten[piece] !== 0) return
    this.#isWritten[piece] = 1
    const bytes = this.#ram[piece]?.length ?? 0
    this.#unwrittenBytes -= bytes
    if (this.#spilled?.isWriting(piece)) this.#leavingBytes += bytes
    this.#tellRoom()
  }

  has(piece: number): boolean {
    return hasBit(this.#field, piece)
  }

  /** Rejects when it does not have the piece, or when the spill area has lost it. */
  read(piece: number): Buffer | Promise<Buffer> {
    const bytes = this.#ram[piece]
    if (bytes !== undefined) return bytes
    if (!this.has(piece) || this.#spilled === undefined) {
      return Promise.reject(new Error(`piece ${piece} is not here`))
    }
    this.#readsFromSpill += 1
    return this.#spilled.read(piece).catch((cause: unknown) => {
      if (this.#spilled?.has(piece)) this.#drop(piece)
      throw new Error(`piece ${piece} is lost in the spill area`, { cause })
    })
  }

  /** Bytes of image.zst, of pieces that are all here: a view of one piece or a copy of several. */
  async readRange(offset: number, length: number): Promise<Buffer> {
    const { pieceBytes } = this.#geometry
    const first = Math.floor(offset / pieceBytes)
    const last = Math.floor((offset + length - 1) / pieceBytes)
    // All of them are taken hold of before anything is waited for: nothing can leave in between.
    const reads = Array.from({ length: last - first + 1 }, (_, index) => Promise.resolve(this.read(first + index)))
    const parts = await Promise.all(reads)
    const start = offset - first * pieceBytes
    const only = parts.length === 1 ? parts[0] : undefined
    if (only !== undefined) return only.subarray(start, start + length)
    const whole = Buffer.allocUnsafeSlow(length)
    let at = -start
    for (const part of parts) {
      part.copy(whole, Math.max(0, at), Math.max(0, -at))
      at += part.length
    }
    return whole
  }

  bitfield(): Buffer {
    return Buffer.from(this.#field)
  }

  /**
   * Whether more pieces may be asked for. When it is false, ask only for what completes a frame that is begun, the lowest
   * first: the other half of the budget is there for those.
   */
  room(): boolean {
    return this.#hasRoom
  }

  /** So many bytes may be under way to here. */
  get roomBytes(): number {
    return this.#hasRoom ? Math.max(0, behindMark * this.budgetBytes - this.#unwrittenBytes) : 0
  }

  counters(): PieceStoreCounters {
    return {
      ramBytes: this.#ramBytes,
      unwrittenBytes: this.#unwrittenBytes,
      spilledBytes: this.#spilled?.bytes ?? 0,
      droppedPieces: this.#droppedPieces,
      readsFromSpill: this.#readsFromSpill,
    }
  }

  /** Spills nothing more. Resolves when the spill area may be closed; what is in memory can still be read. */
  async close(): Promise<void> {
    this.#isClosing = true
    this.#toSpill = []
    await this.#spilled?.idle()
  }

  /** Brings memory back below the mark as far as that goes now, and begins to spill what else should leave. */
  #relieve(): void {
    // Over the budget a little more than that must go, or the next piece would be looking again.
    const marginBytes = lookAgainPart * this.budgetBytes
    const overBytes = this.#ramBytes > this.budgetBytes ? this.#ramBytes - this.budgetBytes + marginBytes : 0
    const shortBytes = this.#ramBytes - relievedMark * this.budgetBytes
    const held = this.#ram.flatMap((bytes, piece) => {
      if (bytes === undefined || this.#spilled?.isWriting(piece)) return []
      const isWritten = this.#isWritten[piece] !== 0
      return [{ piece, bytes: bytes.length, isWritten, isWanted: isWritten && this.#owner.stillWanted(piece) }]
    })
    const isSpillFull = (this.#spilled?.slotsFree ?? 0) * this.#geometry.pieceBytes < shortBytes
    const cleared = isSpillFull ? this.#clearSpilled() : []
    const spillSlots = this.#isClosing ? 0 : (this.#spilled?.slotsFree ?? 0)
    const { drop, spill } = planRelief(held, { shortBytes: shortBytes - this.#leavingBytes, overBytes, spillSlots })
    for (const piece of drop) this.#forget(piece)
    this.#toSpill = [...spill]
    this.#spillNext()
    this.#lookAtBytes = this.#nextLookAt()
    // Last of all, because the owner may call back.
    for (const piece of [...cleared, ...drop]) this.#owner.onDropped(piece)
  }

  #nextLookAt(): number {
    return Math.max(fullMark * this.budgetBytes, this.#ramBytes + lookAgainPart * this.budgetBytes)
  }

  /** Forgets what lies in the spill area and nobody has a use for. */
  #clearSpilled(): number[] {
    const useless = [...(this.#spilled ?? [])].filter(
      (piece) => this.#isWritten[piece] !== 0 && this.#spilled?.has(piece) && !this.#owner.stillWanted(piece),
    )
    for (const piece of useless) this.#forget(piece)
    return useless
  }

  #spillNext(): void {
    while (this.#spilled?.mayWrite) {
      const piece = this.#toSpill.shift()
      const bytes = piece === undefined ? undefined : this.#ram[piece]
      if (piece === undefined) return
      if (bytes === undefined || this.#spilled.isWriting(piece)) continue
      if (this.#isWritten[piece] !== 0) this.#leavingBytes += bytes.length
      this.#spilled.write(piece, bytes, () => this.#spillEnded(piece))
    }
  }

  #spillEnded(piece: number): void {
    const bytes = this.#ram[piece]
    if (bytes === undefined) return
    const isWritten = this.#isWritten[piece] !== 0
    if (isWritten) this.#leavingBytes -= bytes.length
    if (this.#spilled?.has(piece)) {
      this.#ram[piece] = undefined
      this.#ramBytes -= bytes.length
      if (!isWritten) this.#unwrittenBytes -= bytes.length
      this.#lookAtBytes = Math.min(this.#lookAtBytes, this.#nextLookAt())
    }
    this.#spillNext()
    this.#tellRoom()
  }

  #drop(piece: number): void {
    this.#forget(piece)
    this.#owner.onDropped(piece)
  }

  #forget(piece: number): void {
    const bytes = this.#ram[piece]
    if (bytes !== undefined) {
      this.#ram[piece] = undefined
      this.#ramBytes -= bytes.length
    }
    this.#spilled?.drop(piece)
    this.#droppedPieces += 1
    setBit(this.#field, piece, false)
  }

  #tellRoom(): void {
    const mark = this.#hasRoom ? behindMark : caughtUpMark
    const hadRoom = this.#hasRoom
    this.#hasRoom = this.#unwrittenBytes < mark * this.budgetBytes
    if (this.#hasRoom && !hadRoom) this.#owner.onRoom?.()
  }
}
