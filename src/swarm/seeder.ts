// The seeder beside the origin: an ordinary BitTorrent peer that has every piece, for stock clients. Our own agents fetch
// from the origin by HTTP. An image is opened when the tracker first names us for it, and closed when nobody has asked for
// a while.
import type { TokenBucket } from '../lib/rate-limit.ts'
import type { PieceGeometry, SwarmPeer } from '../model/swarm.ts'
import { type FileStore, openFileStore } from './file-store.ts'
import { newPeerId, Peer, type PeerSwarm } from './peer.ts'
import { listenForPeers, type PeerListener } from './peer-listener.ts'
import { Uploads } from './upload.ts'

export type SeederOptions = {
  /** Our address on the machines' network; port 0 is any. */
  readonly host: string
  readonly port: number
  readonly client: string
  /** What the origin may send in all, this seeder included. */
  readonly egress?: TokenBucket | undefined
}

/** Peers of one image, at most; each holds a socket and a few buffers. */
const peersMax = 256

const idleMsMax = 600_000
const sweepMs = 60_000

type Seeded = {
  readonly wire: PeerSwarm
  readonly store: FileStore
  readonly peers: Set<Peer>
  askedAt: number
}

export class Seeder {
  readonly #options: SeederOptions
  readonly #listener: PeerListener
  readonly #wires: Map<string, PeerSwarm>
  readonly #seeded = new Map<string, Seeded>()
  readonly #opening = new Map<string, Promise<void>>()
  readonly #peerId = newPeerId()
  readonly #uploads = new Uploads()
  readonly #sweeps: NodeJS.Timeout
  #sentBefore = 0

  constructor(options: SeederOptions, listener: PeerListener, wires: Map<string, PeerSwarm>) {
    this.#options = options
    this.#listener = listener
    this.#wires = wires
    this.#sweeps = setInterval(() => this.#sweep(performance.now()), sweepMs).unref()
  }

  get port(): number {
    return this.#listener.port
  }

  /** Bytes of pieces sent since the start. */
  get sentBytes(): number {
    let sum = this.#sentBefore
    for (const { peers } of this.#seeded.values()) for (const peer of peers) sum += peer.sentBytes
    return sum
  }

  /** The seeder as the tracker names it; undefined as long as the image is not open. */
  peerOf(infoHash: string): SwarmPeer | undefined {
    const seeded = this.#seeded.get(infoHash)
    if (seeded === undefined) return undefined
    seeded.askedAt = performance.now()
    return { peerId: this.#peerId.toString('hex'), ip: this.#options.host, port: this.port }
  }

  /** Makes an image ready to be asked for. Rejects when its file is not as long as the torrent says. */
  open(infoHash: string, image: { readonly path: string; readonly geometry: PieceGeometry }): Promise<void> {
    if (this.#seeded.has(infoHash)) return Promise.resolve()
    const opening = this.#opening.get(infoHash) ?? this.#open(infoHash, image)
    this.#opening.set(infoHash, opening)
    return opening.finally(() => this.#opening.delete(infoHash))
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeps)
    await this.#listener.close()
    await Promise.allSettled(this.#opening.values())
    await Promise.all([...this.#seeded.keys()].map((infoHash) => this.#forget(infoHash)))
  }

  async #open(
    infoHash: string,
    { path, geometry }: { readonly path: string; readonly geometry: PieceGeometry },
  ): Promise<void> {
    const store = await openFileStore(path, geometry)
    const peers = new Set<Peer>()
    const ignore = () => undefined
    const wire: PeerSwarm = {
      infoHash: Buffer.from(infoHash, 'hex'),
      peerId: this.#peerId,
      geometry,
      reader: store,
      uploads: this.#uploads,
      client: this.#options.client,
      egress: () => this.#options.egress,
      refuse: () => (peers.size >= peersMax ? `there are ${peersMax} peers already` : undefined),
      events: {
        onReady: (peer) => peers.add(peer),
        onClosed: (peer) => {
          if (peer instanceof Peer && peers.delete(peer)) this.#sentBefore += peer.sentBytes
        },
        // It asks for nothing.
        onPiece: ignore,
        onBytes: ignore,
        onRefused: ignore,
        onHave: ignore,
        onDontHave: ignore,
        onNever: ignore,
      },
    }
    this.#seeded.set(infoHash, { wire, store, peers, askedAt: performance.now() })
    this.#wires.set(infoHash, wire)
  }

  #sweep(now: number): void {
    for (const [infoHash, { peers, askedAt }] of this.#seeded) {
      // A file that cannot be closed any more was read all the same.
      if (peers.size === 0 && now - askedAt > idleMsMax) this.#forget(infoHash).catch(() => undefined)
    }
  }

  async #forget(infoHash: string): Promise<void> {
    const seeded = this.#seeded.get(infoHash)
    if (seeded === undefined) return
    this.#seeded.delete(infoHash)
    this.#wires.delete(infoHash)
    for (const peer of seeded.peers) peer.close()
    await seeded.store.close()
  }
}

/** Starts the seeder. Throws when its port is taken. */
export async function startSeeder(options: SeederOptions): Promise<Seeder> {
  const wires = new Map<string, PeerSwarm>()
  const listener = await listenForPeers({ host: options.host, port: options.port, swarms: wires })
  return new Seeder(options, listener, wires)
}
