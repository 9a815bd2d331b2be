// One connection of the BitTorrent peer wire, after both sides have named the torrent: another agent of ours, or a stranger
// (aria2, libtorrent, transmission). Between agents nobody is choked, whole pieces are asked for in one message, and a
// request for what is not there yet is answered when it is. BEP 3, 6, 10, 54; docs/swarm.md. Who opens connections:
// peer-listener.ts; what goes on below the messages: peer-link.ts.
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { RateLimit } from '../lib/rate-limit.ts'
import { type PieceGeometry, pieceCount } from '../model/swarm.ts'
import { bitsOf, countBits, emptyBitfield, fullBitfield, hasBit, hasMoreThan, setBit } from '../protocol/bitfield.ts'
import {
  decodeDontHave,
  decodeExtensionHandshake,
  decodeRuns,
  encodeDontHave,
  encodeExtensionHandshake,
  encodeRuns,
  extensionHandshakeId,
  ourExtensions,
} from '../protocol/peer-extensions.ts'
import { type Handshake, type PeerMessage, PeerWireDecoder } from '../protocol/peer-wire.ts'
import { PeerDownload } from './peer-download.ts'
import { PeerLink } from './peer-link.ts'
import { PeerNews } from './peer-news.ts'
import { PeerUpload, requestsAdvertised } from './peer-upload.ts'
import type { PieceReader } from './piece-reader.ts'
import type { PieceSource, PieceSourceEvents } from './piece-source.ts'
import type { Uploads } from './upload.ts'

export type PeerEvents = PieceSourceEvents & {
  /** A peer has introduced itself; its kind is known. The first event of each peer, and `onClosed` is the last. */
  readonly onReady: (peer: Peer) => void
  /** An agent that needs a part only says which pieces it will never hold. */
  readonly onNever: (peer: Peer, pieces: readonly number[]) => void
}

export type PeerDirection = 'incoming' | 'outgoing'

/** Who wants to be, or is, at the other end. */
export type PeerCandidate = {
  /** 40 hex digits. */
  readonly peerId: string
  readonly direction: PeerDirection
  readonly ip: string
  readonly port: number
}

/** What all connections of one swarm share. */
export type PeerSwarm = {
  /** 20 bytes each; the peer id is our own. */
  readonly infoHash: Buffer
  readonly peerId: Buffer
  readonly geometry: PieceGeometry
  readonly reader: PieceReader
  /** Pieces that we shall never hold: agents are told so, and who asks for one is refused. */
  readonly never?: ReadonlySet<number> | undefined
  readonly events: PeerEvents
  readonly uploads: Uploads
  /** What we call ourselves, as in `HaDeS 0.1.0`. */
  readonly client: string
  /** Caps of what this peer is sent and what comes from it, as they hold now; absent or undefined: none. */
  readonly egress?: ((peerId: string) => RateLimit | undefined) | undefined
  readonly ingress?: ((peerId: string) => RateLimit | undefined) | undefined
  /**
   * The reason why this peer is not wanted, or undefined if it is. Asked when its id is known and once more right before
   * `onReady`: between the two a second connection to the same peer may have become ready.
   */
  readonly refuse: (candidate: PeerCandidate) => string | undefined
  /** Where the bytes of a piece are put together; absent: fresh memory. */
  readonly allocate?: ((bytes: number) => Buffer) | undefined
}

/** A peer that says it knows extensions and names none for so long is a stranger. */
const introductionMsMax = 5_000

/** What may wait in a socket beyond the pieces that we put there: who does not read our answers is let go. */
const controlBacklogBytesMax = 1024 * 1024

/** An id for this process as a peer (BEP 20). */
export function newPeerId(): Buffer {
  return Buffer.from(`-HD0100-${randomBytes(6).toString('hex')}`)
}

export class Peer implements PieceSource {
  readonly id: string
  readonly direction: PeerDirection
  readonly ip: string
  readonly port: number
  readonly #swarm: PeerSwarm
  readonly #socket: Socket
  readonly #isFast: boolean
  readonly #decoder: PeerWireDecoder
  readonly #settled: (reason?: Error) => void
  readonly #link: PeerLink
  readonly #news: PeerNews
  readonly #sink
  #phase: 'introducing' | 'ready' | 'closed' = 'introducing'
  #wasReady = false
  #isAgent = false
  #client = ''
  #dontHaveId: number | undefined
  #neverId: number | undefined
  #runsId: number | undefined
  #requestsMax = Number.POSITIVE_INFINITY
  #held: Buffer
  /** What we held when we introduced ourselves. */
  readonly #told: Buffer
  #isChokingUs = true
  #isInterested = false
  #areWeInterested = false
  #download: PeerDownload | undefined
  #upload: PeerUpload | undefined
  // What the other has told in the chunk that is being read.
  #toldHave: number[] = []
  #introduction: NodeJS.Timeout | undefined
  #reason: Error | undefined
  #receivedBytes = 0

  /**
   * Takes over a socket on which both have sent their handshakes; what comes in is given to `receive`. `settled` is called
   * once: when the peer is ready, or with the reason why it will not be.
   */
  constructor(options: {
    readonly swarm: PeerSwarm
    readonly socket: Socket
    readonly handshake: Handshake
    readonly direction: PeerDirection
    readonly settled: (reason?: Error) => void
  }) {
    const { swarm, socket, handshake } = options
    this.#swarm = swarm
    this.#socket = socket
    this.#settled = options.settled
    this.id = handshake.peerId.toString('hex')
    this.direction = options.direction
    this.ip = socket.remoteAddress ?? ''
    this.port = socket.remotePort ?? 0
    this.#isFast = handshake.isFast
    this.#decoder = new PeerWireDecoder(swarm.geometry)
    this.#held = emptyBitfield(pieceCount(swarm.geometry))
    this.#told = swarm.reader.bitfield()
    const isAgent = () => this.#isAgent
    this.#link = new PeerLink({
      socket,
      ingress: () => swarm.ingress?.(this.id),
      backlogBytesMax: 4 * swarm.geometry.pieceBytes + controlBacklogBytesMax,
      isAgent,
      onDead: (reason) => this.#fail(reason),
    })
    this.#news = new PeerNews({
      isAgent,
      tell: (pieces) => this.#guard(() => this.#tellNews(pieces)),
    })
    this.#sink = {
      onMessage: (message: PeerMessage) => this.#onMessage(message),
      onPieceBegin: (block: { piece: number; begin: number; length: number }) => {
        if (this.#download === undefined) throw new Error(`piece ${block.piece} came before any was asked for`)
        this.#download.onPieceBegin(block)
      },
      onPieceBytes: (bytes: Buffer, isLast: boolean) => {
        this.#receivedBytes += bytes.length
        this.#swarm.events.onBytes(this, bytes.length)
        this.#download?.onPieceBytes(bytes, isLast)
      },
    }
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#onClose())
    this.#guard(() => this.#introduce(handshake.isExtended))
  }

  get kind(): 'agent' | 'stranger' {
    return this.#isAgent ? 'agent' : 'stranger'
  }

  /** What the other calls itself. */
  get client(): string {
    return this.#client
  }

  /** Bytes of pieces, without the messages around them. */
  get receivedBytes(): number {
    return this.#receivedBytes
  }

  get sentBytes(): number {
    return this.#upload?.sentBytes ?? 0
  }

  /** How many pieces the other holds. */
  get heldCount(): number {
    return countBits(this.#held)
  }

  /** Requests of the other that wait for us, parked ones too. */
  get waitingRequests(): number {
    return this.#upload?.size ?? 0
  }

  /** Whether the other holds this piece. */
  holds(piece: number): boolean {
    return hasBit(this.#held, piece)
  }

  /** While a stranger chokes us, pieces wait here until it no longer does. */
  request(pieces: readonly number[]): void {
    if (this.#phase === 'ready') this.#download?.request(pieces)
  }

  cancel(piece: number): void {
    if (this.#phase === 'ready') this.#download?.cancel(piece)
  }

  /** We hold these pieces now, verified. Who waits for them is served at once; the news go out in a batch. */
  have(pieces: Iterable<number>): void {
    if (this.#phase === 'closed') return
    const all = [...pieces]
    if (all.length === 0) return
    this.#news.add(all)
    this.#upload?.onHave(all)
  }

  /** We have dropped these pieces (BEP 54). Who cannot be told is refused them when it asks. */
  dontHave(pieces: Iterable<number>): void {
    for (const piece of pieces) {
      if (this.#news.takeBack(piece) || this.#dontHaveId === undefined) continue
      this.#link.send({ kind: 'extended', id: this.#dontHaveId, payload: encodeDontHave(piece) })
    }
  }

  close(reason?: Error): void {
    this.#fail(reason)
  }

  /** Takes what came from the socket; the chunk may be used again when this returns. */
  receive(chunk: Buffer): void {
    this.#guard(() => {
      if (this.#phase === 'closed') return
      this.#link.heard()
      this.#decoder.push(chunk, this.#sink)
      this.#tellHeld()
      this.#link.charge(chunk.length)
    })
  }

  /** Nothing that goes wrong with one peer leaves it: it closes. */
  #guard(act: () => void): void {
    try {
      act()
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** Says what we hold and understand, and waits for the same. */
  #introduce(isExtended: boolean): void {
    const { geometry, client } = this.#swarm
    const bits = this.#told
    const count = countBits(bits)
    if (this.#isFast && count === pieceCount(geometry)) this.#link.send({ kind: 'have-all' })
    else if (this.#isFast && count === 0) this.#link.send({ kind: 'have-none' })
    else if (count > 0) this.#link.send({ kind: 'bitfield', bits })
    if (!isExtended) {
      this.#becomeReady()
      return
    }
    const payload = encodeExtensionHandshake({ client, requestsMax: requestsAdvertised })
    this.#link.send({ kind: 'extended', id: extensionHandshakeId, payload })
    this.#introduction = setTimeout(() => this.#guard(() => this.#becomeReady()), introductionMsMax).unref()
  }

  #becomeReady(): void {
    if (this.#phase !== 'introducing') return
    clearTimeout(this.#introduction)
    const refusal = this.#swarm.refuse({ peerId: this.id, direction: this.direction, ip: this.ip, port: this.port })
    if (refusal !== undefined) {
      this.#fail(new Error(refusal))
      return
    }
    this.#phase = 'ready'
    this.#wasReady = true
    const { events, geometry, reader, uploads, egress, allocate } = this.#swarm
    this.#download = new PeerDownload({
      geometry,
      isAgent: this.#isAgent,
      isFast: this.#isFast,
      requestsMax: this.#requestsMax,
      ask: (block) => this.#link.send({ ...block, kind: 'request' }),
      cancel: (block) => this.#link.send({ ...block, kind: 'cancel' }),
      allocate: allocate ?? ((bytes) => Buffer.allocUnsafeSlow(bytes)),
      onPiece: (piece, bytes) => events.onPiece(this, piece, bytes),
      onRefused: (piece) => events.onRefused(this, piece),
    })
    this.#upload = new PeerUpload({
      geometry,
      reader,
      socket: this.#socket,
      isAgent: this.#isAgent,
      isFast: this.#isFast,
      egress: () => egress?.(this.id),
      uploads,
      isInterested: () => this.#isInterested,
      isNever: (piece) => this.#swarm.never?.has(piece) === true,
      reject: (block) => this.#link.send({ ...block, kind: 'reject' }),
      sendChoke: (isChoked) => this.#link.send({ kind: isChoked ? 'choke' : 'unchoke' }),
    })
    // What every client understands, though agents do not go by it.
    if (this.#isAgent) this.#link.send({ kind: 'unchoke' })
    const { never } = this.#swarm
    if (never !== undefined && never.size > 0 && this.#neverId !== undefined) {
      this.#link.send({ kind: 'extended', id: this.#neverId, payload: encodeRuns([...never]) })
    }
    this.#settled()
    events.onReady(this)
    this.#toldHave = []
    this.#download.setChoked(this.#isChokingUs)
    if (this.#isAgent || !this.#isChokingUs) this.#tellAllHeld()
    this.#reviewInterest()
    this.#tellMissed()
  }

  /** The owner knows of this peer only now: what changed since we introduced ourselves, nobody has told it. */
  #tellMissed(): void {
    const now = this.#swarm.reader.bitfield()
    const pieces = Array.from({ length: pieceCount(this.#swarm.geometry) }, (_, piece) => piece)
    this.have(pieces.filter((piece) => hasBit(now, piece) && !hasBit(this.#told, piece)))
    this.dontHave(pieces.filter((piece) => !hasBit(now, piece) && hasBit(this.#told, piece)))
  }

  #onMessage(message: PeerMessage): void {
    switch (message.kind) {
      case 'choke':
      case 'unchoke':
        this.#onChoke(message.kind === 'choke')
        break
      case 'interested':
      case 'not-interested':
        this.#isInterested = message.kind === 'interested'
        if (this.#phase === 'ready' && !this.#isAgent) this.#swarm.uploads.review()
        break
      case 'have':
        this.#onHeld(message.piece)
        break
      case 'bitfield':
        this.#onBitfield(Buffer.from(message.bits))
        break
      case 'have-all':
      case 'have-none': {
        this.#requireFast(message.kind)
        const pieces = pieceCount(this.#swarm.geometry)
        this.#onBitfield(message.kind === 'have-all' ? fullBitfield(pieces) : emptyBitfield(pieces))
        break
      }
      case 'request':
        if (this.#upload !== undefined) this.#upload.request(message)
        else if (this.#isFast) this.#link.send({ ...message, kind: 'reject' })
        break
      case 'cancel':
        this.#upload?.cancel(message)
        break
      case 'reject':
        this.#requireFast(message.kind)
        this.#download?.onReject(message)
        break
      case 'extended':
        this.#onExtended(message.id, message.payload)
        break
      default:
      // Keep-alives only show that it lives. What it suggests or allows is of no use to our scheduler.
    }
  }

  #onChoke(isChoked: boolean): void {
    if (this.#isChokingUs === isChoked) return
    this.#isChokingUs = isChoked
    if (this.#phase !== 'ready') return
    this.#download?.setChoked(isChoked)
    // While a stranger chokes us it has nothing to give; it is offered to the scheduler when it does not.
    if (!isChoked && !this.#isAgent) this.#tellAllHeld()
  }

  /** Should come once; aria2 sends one in the place of many HAVEs, so it counts as news of whatever it changes. */
  #onBitfield(bits: Buffer): void {
    const before = this.#held
    this.#held = bits
    for (const piece of bitsOf(bits)) if (!hasBit(before, piece)) this.#toldHave.push(piece)
    for (const piece of bitsOf(before)) if (!hasBit(bits, piece)) this.#onDropped(piece)
  }

  #onHeld(piece: number): void {
    if (hasBit(this.#held, piece)) return
    setBit(this.#held, piece, true)
    this.#toldHave.push(piece)
  }

  /** The other no longer holds a piece. */
  #onDropped(piece: number): void {
    this.#tellHeld()
    setBit(this.#held, piece, false)
    if (this.#phase === 'ready') this.#swarm.events.onDontHave(this, piece)
  }

  #onExtended(id: number, payload: Buffer): void {
    if (id === ourExtensions.lt_donthave) {
      const piece = decodeDontHave(payload)
      if (piece >= pieceCount(this.#swarm.geometry)) throw new Error(`lt_donthave of piece ${piece}`)
      this.#onDropped(piece)
    }
    if (id === ourExtensions.hades) {
      for (const piece of decodeRuns(payload, pieceCount(this.#swarm.geometry))) this.#onHeld(piece)
    }
    if (id === ourExtensions.hades_never && this.#phase === 'ready') {
      this.#swarm.events.onNever(this, decodeRuns(payload, pieceCount(this.#swarm.geometry)))
    }
    // A later handshake may switch extensions on and off; who is an agent stays one.
    if (id !== extensionHandshakeId) return
    const { extensions, client, requestsMax } = decodeExtensionHandshake(payload)
    this.#dontHaveId = extensions.get('lt_donthave')
    this.#runsId = extensions.get('hades')
    this.#neverId = extensions.get('hades_never')
    if (this.#phase !== 'introducing') return
    this.#client = client
    this.#isAgent = extensions.has('hades') && this.#isFast
    if (requestsMax !== undefined) this.#requestsMax = requestsMax
    this.#becomeReady()
  }

  #requireFast(kind: string): void {
    if (!this.#isFast) throw new Error(`${kind} from a peer without the fast extension`)
  }

  #tellHeld(): void {
    if (this.#toldHave.length === 0 || this.#phase !== 'ready') return
    const told = this.#toldHave
    this.#toldHave = []
    if (this.#isAgent || !this.#isChokingUs) this.#swarm.events.onHave(this, told)
    this.#reviewInterest()
  }

  #tellAllHeld(): void {
    this.#toldHave = []
    const held = [...bitsOf(this.#held)]
    if (held.length > 0) this.#swarm.events.onHave(this, held)
  }

  /** Agents are told at once and for good; a stranger as long as it has what we have not. */
  #reviewInterest(): void {
    const areInterested = this.#isAgent || hasMoreThan(this.#held, this.#swarm.reader.bitfield())
    if (areInterested === this.#areWeInterested) return
    this.#areWeInterested = areInterested
    this.#link.send({ kind: areInterested ? 'interested' : 'not-interested' })
  }

  #tellNews(pieces: readonly number[]): void {
    if (this.#runsId === undefined) for (const piece of pieces) this.#link.send({ kind: 'have', piece })
    else this.#link.send({ kind: 'extended', id: this.#runsId, payload: encodeRuns(pieces) })
    if (this.#phase === 'ready') this.#reviewInterest()
  }

  #fail(reason: Error | undefined): void {
    if (this.#phase === 'closed') return
    this.#phase = 'closed'
    this.#reason = reason
    this.#stop()
  }

  #stop(): void {
    this.#link.close()
    clearTimeout(this.#introduction)
    this.#news.close()
    this.#upload?.close()
  }

  #onClose(): void {
    if (this.#phase !== 'closed') {
      this.#reason = new Error('the peer closed the connection')
      this.#phase = 'closed'
      this.#stop()
    }
    if (this.#wasReady) this.#swarm.events.onClosed(this, this.#reason)
    else this.#settled(this.#reason ?? new Error('the connection was closed'))
  }
}
