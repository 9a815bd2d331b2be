// The BitTorrent peer wire protocol as bytes: handshake and messages of BEP 3, fast extension of BEP 6, the frame of the
// extension protocol of BEP 10. No sockets, no clock; what a message means is decided elsewhere (swarm/peer.ts).
import { fullBitfield } from './bitfield.ts'

export type Handshake = {
  /** 20 bytes each. */
  readonly infoHash: Buffer
  readonly peerId: Buffer
  /** BEP 6. */
  readonly isFast: boolean
  /** BEP 10. */
  readonly isExtended: boolean
}

export const handshakeBytes = 68

const protocolName = Buffer.from('\x13BitTorrent protocol', 'latin1')

export function encodeHandshake({ infoHash, peerId, isFast, isExtended }: Handshake): Buffer {
  if (infoHash.length !== 20 || peerId.length !== 20) throw new Error('info-hash and peer id have 20 bytes each')
  const reserved = Buffer.alloc(8)
  if (isExtended) reserved[5] = 0x10
  if (isFast) reserved[7] = 0x04
  return Buffer.concat([protocolName, reserved, infoHash, peerId])
}

/**
 * Reads the handshake from the bytes that have come so far; undefined until there are `handshakeBytes` of them. Throws as
 * soon as they cannot become one. The result does not share memory with `bytes`.
 */
export function decodeHandshake(bytes: Buffer): Handshake | undefined {
  const named = Math.min(bytes.length, protocolName.length)
  if (!bytes.subarray(0, named).equals(protocolName.subarray(0, named))) {
    throw new Error('what was sent does not begin with the handshake of BitTorrent')
  }
  if (bytes.length < handshakeBytes) return undefined
  return {
    infoHash: Buffer.from(bytes.subarray(28, 48)),
    peerId: Buffer.from(bytes.subarray(48, handshakeBytes)),
    isFast: ((bytes[27] ?? 0) & 0x04) !== 0,
    isExtended: ((bytes[25] ?? 0) & 0x10) !== 0,
  }
}

/** A part of a piece. */
export type Block = { readonly piece: number; readonly begin: number; readonly length: number }

/** All messages but `piece`, whose bytes are not held in a message. */
export type PeerMessage =
  | { readonly kind: 'keep-alive' | 'choke' | 'unchoke' | 'interested' | 'not-interested' | 'have-all' | 'have-none' }
  | { readonly kind: 'have' | 'suggest' | 'allowed-fast'; readonly piece: number }
  | { readonly kind: 'bitfield'; readonly bits: Buffer }
  | ({ readonly kind: 'request' | 'cancel' | 'reject' } & Block)
  | { readonly kind: 'extended'; readonly id: number; readonly payload: Buffer }
  | { readonly kind: 'dht-port'; readonly port: number }

type WireKind = Exclude<PeerMessage['kind'], 'keep-alive'>

const ids = {
  choke: 0,
  unchoke: 1,
  interested: 2,
  'not-interested': 3,
  have: 4,
  bitfield: 5,
  request: 6,
  cancel: 8,
  'dht-port': 9,
  suggest: 13,
  'have-all': 14,
  'have-none': 15,
  reject: 16,
  'allowed-fast': 17,
  extended: 20,
} as const satisfies Record<WireKind, number>

const kindOf: ReadonlyMap<number, WireKind> = new Map(
  // The cast says what the type of `ids` says: its keys are the kinds.
  Object.entries(ids).map(([kind, id]) => [id, kind as WireKind]),
)

const pieceId = 7

/** Bytes of a `piece` message before its payload. */
export const pieceHeaderBytes = 13

/** Encodes the messages one behind the other, so that they leave in one write. */
export function encodeMessages(messages: readonly PeerMessage[]): Buffer {
  const bytes = Buffer.allocUnsafe(messages.reduce((sum, message) => sum + 4 + bodyBytes(message), 0))
  let at = 0
  for (const message of messages) {
    const length = bodyBytes(message)
    bytes.writeUInt32BE(length, at)
    if (message.kind !== 'keep-alive') {
      bytes[at + 4] = ids[message.kind]
      encodeBody(bytes, at + 5, message)
    }
    at += 4 + length
  }
  return bytes
}

function bodyBytes(message: PeerMessage): number {
  switch (message.kind) {
    case 'keep-alive':
      return 0
    case 'have':
    case 'suggest':
    case 'allowed-fast':
      return 5
    case 'bitfield':
      return 1 + message.bits.length
    case 'request':
    case 'cancel':
    case 'reject':
      return 13
    case 'extended':
      return 2 + message.payload.length
    case 'dht-port':
      return 3
    default:
      return 1
  }
}

function encodeBody(bytes: Buffer, at: number, message: PeerMessage): void {
  switch (message.kind) {
    case 'have':
    case 'suggest':
    case 'allowed-fast':
      bytes.writeUInt32BE(message.piece, at)
      break
    case 'bitfield':
      bytes.set(message.bits, at)
      break
    case 'request':
    case 'cancel':
    case 'reject':
      bytes.writeUInt32BE(message.piece, at)
      bytes.writeUInt32BE(message.begin, at + 4)
      bytes.writeUInt32BE(message.length, at + 8)
      break
    case 'extended':
      bytes[at] = message.id
      bytes.set(message.payload, at + 1)
      break
    case 'dht-port':
      bytes.writeUInt16BE(message.port, at)
      break
    default:
  }
}

/** What stands before the payload of a `piece` message. */
export function encodePieceHeader({ piece, begin, length }: Block): Buffer {
  const bytes = Buffer.allocUnsafe(pieceHeaderBytes)
  bytes.writeUInt32BE(9 + length, 0)
  bytes[4] = pieceId
  bytes.writeUInt32BE(piece, 5)
  bytes.writeUInt32BE(begin, 9)
  return bytes
}

/** How the torrent is cut: equal pieces, the last one as long as the rest. */
export type WireGeometry = { readonly totalBytes: number; readonly pieceBytes: number }

/** Takes what a decoder finds. What it throws ends the decoding and comes out of `push`. */
export interface PeerWireSink {
  /** Buffers inside the message are views that are good until this returns. */
  onMessage(message: PeerMessage): void
  /** A `piece` message begins; it lies inside the torrent. Its bytes follow. */
  onPieceBegin(block: Block): void
  /** The next bytes of that message; a view that is good until this returns. */
  onPieceBytes(bytes: Buffer, isLast: boolean): void
}

/** An extended message has handshakes and lists of peers; what is longer is no message we could need. */
export const extendedBytesMax = 64 * 1024

/**
 * Reads the stream behind the handshake, in whatever portions it comes. Payload of pieces is passed on as it comes and
 * never held; of everything else at most one message. What breaks the protocol or lies outside the torrent throws an Error
 * with the reason, after which the decoder is of no more use.
 */
export class PeerWireDecoder {
  readonly #geometry: WireGeometry
  readonly #pieces: number
  readonly #lastBits: number
  // The beginning of a message whose rest has not come.
  #held = Buffer.allocUnsafe(heldBytesMin)
  #heldBytes = 0
  #payloadLeft = 0

  constructor(geometry: WireGeometry) {
    this.#geometry = geometry
    this.#pieces = Math.ceil(geometry.totalBytes / geometry.pieceBytes)
    this.#lastBits = fullBitfield(this.#pieces).at(-1) ?? 0
  }

  push(chunk: Buffer, sink: PeerWireSink): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#payloadLeft > 0) {
        const end = Math.min(chunk.length, at + this.#payloadLeft)
        this.#payloadLeft -= end - at
        sink.onPieceBytes(chunk.subarray(at, end), this.#payloadLeft === 0)
        at = end
      } else if (this.#heldBytes > 0) {
        at = this.#hold(chunk, at)
        if (this.#isWhole(this.#held, 0, this.#heldBytes)) {
          const bytes = this.#held.subarray(0, this.#heldBytes)
          this.#heldBytes = 0
          if (bytes.length > heldBytesMin) this.#held = Buffer.allocUnsafe(heldBytesMin)
          this.#take(bytes, sink)
        }
      } else if (this.#isWhole(chunk, at, chunk.length)) {
        const end = at + this.#needed(chunk, at, chunk.length)
        this.#take(chunk.subarray(at, end), sink)
        at = end
      } else {
        at = this.#hold(chunk, at)
      }
    }
  }

  /** Keeps of `chunk` what its message still needs, as far as that is known; returns where the rest begins. */
  #hold(chunk: Buffer, at: number): number {
    const needed = this.#needed(this.#held, 0, this.#heldBytes)
    if (needed > this.#held.length) {
      const larger = Buffer.allocUnsafe(needed)
      this.#held.copy(larger, 0, 0, this.#heldBytes)
      this.#held = larger
    }
    const end = Math.min(chunk.length, at + needed - this.#heldBytes)
    this.#heldBytes += chunk.copy(this.#held, this.#heldBytes, at, end)
    return end
  }

  #isWhole(bytes: Buffer, at: number, end: number): boolean {
    // A need that grows when it is met (length, then kind) is not met.
    const needed = this.#needed(bytes, at, end)
    return end - at >= needed && (needed > 5 || bytes.readUInt32BE(at) + 4 === needed)
  }

  /** How many bytes from `at` on make the message, or tell more about how many. Throws for lengths that cannot be. */
  #needed(bytes: Buffer, at: number, end: number): number {
    if (end - at < 4) return 4
    const length = bytes.readUInt32BE(at)
    if (length === 0) return 4
    if (end - at < 5) return 5
    const id = bytes[at + 4] ?? 0
    if (id === pieceId) {
      if (length <= 9 || length > 9 + this.#geometry.pieceBytes) throw wrongLength('piece', length)
      return pieceHeaderBytes
    }
    this.#checkLength(id, length)
    return 4 + length
  }

  #checkLength(id: number, length: number): void {
    const kind = kindOf.get(id)
    let isRight = length === 1
    switch (kind) {
      case undefined:
        throw new Error(`there is no message ${id}`)
      case 'have':
      case 'suggest':
      case 'allowed-fast':
        isRight = length === 5
        break
      case 'bitfield':
        isRight = length === 1 + Math.ceil(this.#pieces / 8)
        break
      case 'request':
      case 'cancel':
      case 'reject':
        isRight = length === 13
        break
      case 'dht-port':
        isRight = length === 3
        break
      case 'extended':
        isRight = length >= 2 && length <= 2 + extendedBytesMax
        break
      default:
    }
    if (!isRight) throw wrongLength(kind, length)
  }

  /** `bytes` are one whole message, or the part of a `piece` message before its payload. */
  #take(bytes: Buffer, sink: PeerWireSink): void {
    if (bytes[4] !== pieceId) {
      sink.onMessage(this.#message(bytes))
      return
    }
    const block = this.#block('piece', {
      piece: bytes.readUInt32BE(5),
      begin: bytes.readUInt32BE(9),
      length: bytes.readUInt32BE(0) - 9,
    })
    this.#payloadLeft = block.length
    sink.onPieceBegin(block)
  }

  #message(bytes: Buffer): PeerMessage {
    const kind = bytes.length === 4 ? 'keep-alive' : kindOf.get(bytes[4] ?? 0)
    switch (kind) {
      case undefined:
        throw new Error(`there is no message ${bytes[4]}`)
      case 'have':
      case 'suggest':
      case 'allowed-fast':
        return { kind, piece: this.#piece(kind, bytes.readUInt32BE(5)) }
      case 'bitfield': {
        const spare = (bytes.at(-1) ?? 0) & ~this.#lastBits
        if (spare !== 0) throw new Error('the bitfield names pieces that do not exist')
        return { kind, bits: bytes.subarray(5) }
      }
      case 'request':
      case 'cancel':
      case 'reject': {
        const block = { piece: bytes.readUInt32BE(5), begin: bytes.readUInt32BE(9), length: bytes.readUInt32BE(13) }
        return { kind, ...this.#block(kind, block) }
      }
      case 'dht-port':
        return { kind, port: bytes.readUInt16BE(5) }
      case 'extended':
        return { kind, id: bytes[5] ?? 0, payload: bytes.subarray(6) }
      default:
        return { kind }
    }
  }

  #piece(name: string, piece: number): number {
    if (piece >= this.#pieces) throw new Error(`${name} of piece ${piece}, where there are ${this.#pieces}`)
    return piece
  }

  #block(name: string, block: Block): Block {
    const { totalBytes, pieceBytes } = this.#geometry
    this.#piece(name, block.piece)
    const end = Math.min(pieceBytes, totalBytes - block.piece * pieceBytes)
    if (block.length === 0 || block.begin + block.length > end) {
      throw new Error(
        `${name} of ${block.length} bytes at ${block.begin} of piece ${block.piece}, which has ${end} bytes`,
      )
    }
    return block
  }
}

/** Long enough for every message but bitfields and extended ones. */
const heldBytesMin = 32

function wrongLength(name: string, length: number): Error {
  return new Error(`a message ${name} cannot have ${length} bytes`)
}
