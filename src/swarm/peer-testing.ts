// What the tests of peers share: pieces in memory, a swarm around them that writes down what happens, and raw sockets that
// misbehave.
import { createHash, randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import type { TokenBucket } from '../lib/rate-limit.ts'
import { until } from '../lib/until.ts'
import { type PieceGeometry, pieceCount, pieceLength } from '../model/swarm.ts'
import { emptyBitfield, setBit } from '../protocol/bitfield.ts'
import { encodeHandshake } from '../protocol/peer-wire.ts'
import type { Peer, PeerSwarm } from './peer.ts'
import { connectPeer, type ListenOptions, listenForPeers, type PeerListener } from './peer-listener.ts'
import type { PieceReader } from './piece-reader.ts'
import { Uploads } from './upload.ts'

/** Pieces in memory, added one by one. */
export class MemoryPieces implements PieceReader {
  readonly geometry: PieceGeometry
  readonly pieces = new Map<number, Buffer>()

  constructor(geometry: PieceGeometry) {
    this.geometry = geometry
  }

  static full(bytes: Buffer, pieceBytes: number): MemoryPieces {
    const memory = new MemoryPieces({ totalBytes: bytes.length, pieceBytes })
    for (let piece = 0; piece < pieceCount(memory.geometry); piece++) {
      const begin = piece * pieceBytes
      memory.pieces.set(piece, bytes.subarray(begin, begin + pieceLength(memory.geometry, piece)))
    }
    return memory
  }

  has(piece: number): boolean {
    return this.pieces.has(piece)
  }

  read(piece: number): Buffer {
    const bytes = this.pieces.get(piece)
    if (bytes === undefined) throw new Error(`piece ${piece} is not here`)
    return bytes
  }

  bitfield(): Buffer {
    const bits = emptyBitfield(pieceCount(this.geometry))
    for (const piece of this.pieces.keys()) setBit(bits, piece, true)
    return bits
  }

  sha1(): string {
    const hash = createHash('sha1')
    for (const piece of [...this.pieces.keys()].sort((a, b) => a - b)) hash.update(this.read(piece))
    return hash.digest('hex')
  }
}

export type Closing = { readonly peer: Peer; readonly reason: Error | undefined }

/** A swarm of one process, and what its events said. */
export type TestSwarm = {
  readonly swarm: PeerSwarm
  readonly store: MemoryPieces
  /** Ready and not closed, in the order they came. */
  readonly peers: Peer[]
  readonly closed: Closing[]
  readonly refused: number[]
  readonly had: number[]
  readonly never: number[]
  readonly dropped: number[]
  /** Puts pieces into the store as they come and tells all peers; true unless a test wants otherwise. */
  keepsPieces: boolean
  onHave: ((peer: Peer, pieces: number[]) => void) | undefined
  onPiece: ((peer: Peer, piece: number, bytes: Buffer) => void) | undefined
}

export const testInfoHash = createHash('sha1').update('a torrent').digest()

export function ownPeerId(): Buffer {
  return Buffer.from(`-HD0100-${randomBytes(6).toString('hex')}`)
}

export function testSwarm(
  store: MemoryPieces,
  options: { infoHash?: Buffer; peerId?: Buffer; egress?: TokenBucket; ingress?: TokenBucket } = {},
): TestSwarm {
  // The sources of this swarm are peers: nothing else is ever given its events.
  const asPeer = (source: unknown) => source as Peer
  const world: TestSwarm = {
    store,
    peers: [],
    closed: [],
    refused: [],
    had: [],
    never: [],
    dropped: [],
    keepsPieces: true,
    onHave: undefined,
    onPiece: undefined,
    swarm: {
      infoHash: options.infoHash ?? testInfoHash,
      peerId: options.peerId ?? ownPeerId(),
      geometry: store.geometry,
      reader: store,
      uploads: new Uploads(),
      client: 'HaDeS test',
      egress: () => options.egress,
      ingress: () => options.ingress,
      refuse: ({ peerId }) => (world.peers.some(({ id }) => id === peerId) ? 'connected already' : undefined),
      events: {
        onReady: (peer) => world.peers.push(peer),
        onPiece: (source, piece, bytes) => {
          world.onPiece?.(asPeer(source), piece, bytes)
          if (!world.keepsPieces) return
          store.pieces.set(piece, bytes)
          for (const peer of world.peers) peer.have([piece])
        },
        onBytes: () => {},
        onRefused: (_, piece) => world.refused.push(piece),
        onHave: (source, pieces) => {
          const all = [...pieces]
          world.had.push(...all)
          world.onHave?.(asPeer(source), all)
        },
        onNever: (_, pieces) => world.never.push(...pieces),
        onDontHave: (_, piece) => world.dropped.push(piece),
        onClosed: (source, reason) => {
          const peer = asPeer(source)
          world.closed.push({ peer, reason })
          const at = world.peers.indexOf(peer)
          if (at >= 0) world.peers.splice(at, 1)
        },
      },
    },
  }
  return world
}

/** Listens on loopback for one swarm. */
export function listenFor(world: TestSwarm, options: Partial<ListenOptions> = {}): Promise<PeerListener> {
  const swarms = new Map([[world.swarm.infoHash.toString('hex'), world.swarm]])
  return listenForPeers({ host: '127.0.0.1', port: 0, swarms, ...options })
}

/** Two swarms with one connection between them; the first one's peer opened it. */
export async function connected(
  from: TestSwarm,
  to: TestSwarm,
): Promise<{ listener: PeerListener; peer: Peer; other: Peer }> {
  const listener = await listenFor(to)
  const peer = await connectPeer(from.swarm, { ip: '127.0.0.1', port: listener.port })
  const other = await until('the other side is ready', () => to.peers[0], { timeoutMs: 5000, everyMs: 2 })
  return { listener, peer, other }
}

export async function closeAll(listener: PeerListener, ...worlds: TestSwarm[]): Promise<void> {
  for (const world of worlds) for (const peer of world.peers) peer.close()
  await listener.close()
}

/** A socket that says what a test wants: no client of ours. */
export async function rawPeer(port: number): Promise<{ socket: Socket; received: () => Buffer; ended: Promise<void> }> {
  const socket = connect({ host: '127.0.0.1', port })
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('error', () => {})
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  await new Promise((resolve) => socket.once('connect', resolve))
  return { socket, received: () => Buffer.concat(chunks), ended }
}

/** A handshake of a stranger without extensions; `isFast` at will. */
export function strangerHandshake(options: { infoHash?: Buffer; peerId?: Buffer; isFast?: boolean } = {}): Buffer {
  return encodeHandshake({
    infoHash: options.infoHash ?? testInfoHash,
    peerId: options.peerId ?? Buffer.from(`-XX0000-${randomBytes(6).toString('hex')}`),
    isFast: options.isFast ?? false,
    isExtended: false,
  })
}
