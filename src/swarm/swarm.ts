// One image's swarm as one agent lives in it: sockets, the store, the web seeds and the tracker around the scheduler, which
// alone decides what is asked of whom. Pieces come out verified, in the order of their arrival; they stay readable, and go
// on to whoever asks, until they are released. docs/swarm.md.
import { hash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { plainAddress } from '../lib/plain-address.ts'
import { type RateLimit, TokenBucket, together } from '../lib/rate-limit.ts'
import type { Secret } from '../lib/secret.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { type PieceGeometry, pieceCount, pieceLength, type Route, type SwarmPeer } from '../model/swarm.ts'
import type { parseTorrent } from '../protocol/torrent.ts'
import { TrackerClient } from './announce.ts'
import { newPeerId, Peer, type PeerCandidate, type PeerSwarm } from './peer.ts'
import { connectPeer, listenForPeers, type PeerListener } from './peer-listener.ts'
import type { PieceSource } from './piece-source.ts'
import { PieceStore } from './piece-store.ts'
import { largest, type PieceSupply, type SupplyCounts } from './piece-supply.ts'
import { Schedule } from './schedule.ts'
import type { SpillArea } from './spill-area.ts'
import { Uploads } from './upload.ts'
import { WebSeed } from './web-seed.ts'

export type SwarmOptions = {
  readonly torrent: ReturnType<typeof parseTorrent>
  /** The pieces that we are to get; all of them unless given. */
  readonly wanted?: ReadonlySet<number> | undefined
  /** URLs of image.zst, the origin first. */
  readonly webSeeds: readonly string[]
  /** Without a tracker the web seeds are asked for everything. */
  readonly tracker?: { readonly url: string; readonly token: Secret } | undefined
  /** Where peers connect to us; port 0 is any. */
  readonly listen: { readonly host: string; readonly port: number }
  /** For compressed pieces in memory. */
  readonly budgetBytes: number
  readonly spillArea?: SpillArea | undefined
  /** Bytes a second; absent: no cap. */
  readonly egressBytesPerSecond?: number | undefined
  readonly ingressBytesPerSecond?: number | undefined
  /** Of all that leaves the site, and that comes into it, from the origin too; ours is the part of the stripes that cross here. */
  readonly siteEgressBytesPerSecond?: number | undefined
  readonly siteIngressBytesPerSecond?: number | undefined
  /** What we call ourselves to other peers, as `HaDeS 0.1.0`. */
  readonly client: string
  readonly log: (line: string) => void
}

/** How often the scheduler looks whether somebody is late. */
const tickMs = 100

/**
 * So long the tracker may take to name a predecessor before the web seed is asked instead; longer than an announce, so that
 * hosts which are slow to start, or thousands that start at once, do not all turn to the origin.
 */
const routeMsMax = 6000

/** Connections that no route names any more are kept for a while: the next route may name them again. */
const strayMsMax = 15_000

/** A source that could not be reached is tried again after this. */
const reconnectMs = 1000

/** Smaller pieces are hashed at once, which takes less than handing them to another thread. */
const hashHereBytesMax = 128 * 1024

/** Web seeds may send so many pieces with wrong hashes before it is the torrent that is wrong. */
const webCorruptMax = 5

/** When nothing at all has come for so long, no more will; sooner when every web seed says that it has no such file. */
const noProgressMsMax = 300_000
const goneMsMax = 10_000

/** Who has asked for nothing for so long gains nothing from us. */
const idleMsMax = 5000

/** So long before we go, the tracker gives our successors to others. */
const leaveMs = 3000

const slabBytes = 8 * 1024 * 1024

/** A taker that waits is given so much at least: two frames and more. */
const minRoomBytes = 8 * 1024 * 1024

/** Joins the swarm of an image. Throws when the port cannot be bound. */
export async function joinSwarm(options: SwarmOptions): Promise<Swarm> {
  const peerId = newPeerId()
  const swarms = new Map<string, PeerSwarm>()
  const { host, port } = options.listen
  const onTurnedAway = (ip: string, reason: Error) => options.log(`turned ${ip} away: ${reason.message}`)
  const listener = await listenForPeers({ host, port, swarms, onTurnedAway })
  const swarm = new Swarm(options, { peerId, listener })
  swarms.set(options.torrent.infoHash, swarm.wire)
  swarm.begin()
  return swarm
}

export class Swarm implements PieceSupply {
  readonly wire: PeerSwarm
  /** Resolves when the last piece is verified. */
  readonly completed: Promise<void>
  readonly #complete: () => void
  readonly #options: SwarmOptions
  readonly #geometry: PieceGeometry
  readonly #schedule: Schedule
  readonly #store: PieceStore
  readonly #listener: PeerListener
  readonly #peerId: string
  readonly #sources = new Map<string, PieceSource>()
  readonly #names = new Map<string, string>()
  readonly #connecting = new Set<string>()
  readonly #retryAt = new Map<string, number>()
  readonly #strays = new Map<string, number>()
  readonly #closing = new AbortController()
  readonly #webIngress: RateLimit | undefined
  readonly #siteEgress: TokenBucket | undefined
  readonly #siteIngress: TokenBucket | undefined
  readonly #received = new Map<string, number>()
  readonly #arrivals: number[] = []
  readonly #released = new Set<number>()
  #taken = 0
  #wakeTaker: (() => void) | undefined
  #tracker: TrackerClient | undefined
  #route: Route | undefined
  #tick: NodeJS.Timeout | undefined
  #isKicked = false
  #isTakerIdle = false
  #isLeaving = false
  #failure: Error | undefined
  #progressAt = performance.now()
  #receivedBytes = 0
  #sentBefore = 0
  #webCorrupt = 0
  #rate = { at: performance.now(), bytes: 0, bytesPerSecond: 0 }

  constructor(options: SwarmOptions, own: { readonly peerId: Buffer; readonly listener: PeerListener }) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.completed = promise
    this.#complete = resolve
    this.#options = options
    this.#listener = own.listener
    this.#peerId = own.peerId.toString('hex')
    const { info, infoHash } = options.torrent
    this.#geometry = { totalBytes: info.totalBytes, pieceBytes: info.pieceBytes }
    this.#schedule = new Schedule(this.#geometry, { jitterMs: Math.random() * 1000, wanted: options.wanted })
    this.#store = new PieceStore({
      geometry: this.#geometry,
      budgetBytes: options.budgetBytes,
      spillArea: options.spillArea,
      owner: {
        stillWanted: (piece) => this.#isWanted(piece),
        onDropped: (piece) => this.#onDropped(piece),
        onRoom: () => this.#kick(),
        onSpillFailed: (error) => options.log(`pieces are no longer spilled to the disk: ${error.message}`),
      },
    })
    const ingress = bucketOf(options.ingressBytesPerSecond)
    const egress = bucketOf(options.egressBytesPerSecond)
    this.#siteEgress = bucketOf(options.siteEgressBytesPerSecond)
    this.#siteIngress = bucketOf(options.siteIngressBytesPerSecond)
    this.#webIngress = together(ingress, this.#siteIngress)
    const acrossEgress = together(egress, this.#siteEgress)
    this.wire = {
      infoHash: Buffer.from(infoHash, 'hex'),
      peerId: own.peerId,
      geometry: this.#geometry,
      reader: this.#store,
      never: neverOf(options.wanted, this.#geometry),
      uploads: new Uploads(),
      client: options.client,
      // Where a peer stands is looked up only if it matters: this is asked for every read and every piece.
      egress:
        this.#siteEgress === undefined ? () => egress : (peerId) => (this.#isNear(peerId) ? egress : acrossEgress),
      ingress:
        this.#siteIngress === undefined
          ? () => ingress
          : (peerId) => (this.#isNear(peerId) ? ingress : this.#webIngress),
      allocate: slabs(),
      refuse: (candidate) => this.#refuse(candidate),
      events: this.#events(),
    }
  }

  /** Begins to announce and to ask. */
  begin(): void {
    const { tracker, torrent } = this.#options
    this.#tick = setInterval(() => this.#onTick(), tickMs)
    if (this.isComplete) this.#complete()
    if (tracker === undefined) {
      this.#askWebSeeds()
      return
    }
    const askAnyway = setTimeout(() => this.#askWebSeeds(), routeMsMax).unref()
    this.#closing.signal.addEventListener('abort', () => clearTimeout(askAnyway), { once: true })
    this.#tracker = new TrackerClient({
      ...tracker,
      infoHash: torrent.infoHash,
      peerId: this.#peerId,
      port: this.#listener.port,
      status: () => this.#status(),
      onRoute: (route) => this.#onRoute(route),
      onAway: (error) => {
        this.#options.log(`the tracker is away, going on without it: ${causeChain(error).join(': ')}`)
        if (this.#route === undefined) this.#askWebSeeds()
      },
      onBack: () => this.#options.log('the tracker is back'),
    })
  }

  get port(): number {
    return this.#listener.port
  }

  get isComplete(): boolean {
    return this.#schedule.isComplete
  }

  async *pieces(): AsyncGenerator<number> {
    const total = this.#options.wanted?.size ?? pieceCount(this.#geometry)
    while (this.#taken < total) {
      if (this.#failure !== undefined) throw this.#failure
      const piece = this.#arrivals[this.#taken]
      if (piece === undefined) {
        this.#isTakerIdle = true
        this.#kick()
        await new Promise<void>((resolve) => {
          this.#wakeTaker = resolve
        })
        this.#isTakerIdle = false
        continue
      }
      this.#taken += 1
      yield piece
    }
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#store.readRange(offset, length)
  }

  release(piece: number): void {
    this.#released.add(piece)
    this.#store.written(piece)
    this.#kick()
  }

  progress(): SupplyCounts {
    const origin = this.#options.webSeeds.reduce((sum, url) => sum + (this.#received.get(url) ?? 0), 0)
    const named = [...this.#received].filter(([id]) => !this.#options.webSeeds.includes(id))
    const sources = [
      ...(origin > 0 ? [{ name: 'origin', bytes: origin }] : []),
      ...named.map(([id, bytes]) => ({ name: this.#names.get(id) ?? id, bytes })),
    ]
    const uploads = this.#peers().map((peer) => ({ name: this.#names.get(peer.id) ?? peer.id, bytes: peer.sentBytes }))
    const { ramBytes, spilledBytes } = this.#store.counters()
    return {
      receivedBytes: this.#receivedBytes,
      verifiedBytes: this.#bytesOf(this.#schedule.verifiedPieces),
      fromOriginBytes: origin,
      fromPeersBytes: this.#receivedBytes - origin,
      toPeersBytes: this.#sentBytes(),
      ramBytes,
      spilledBytes,
      sources: largest(sources),
      uploads: largest(uploads),
    }
  }

  /**
   * Stays while a peer that is not complete takes from us. Before it goes the tracker is told, so that nobody is sent to us
   * any more.
   */
  async linger({ maxMs, signal }: { readonly maxMs: number; readonly signal: AbortSignal }): Promise<void> {
    const until = performance.now() + maxMs
    let sentBytes = this.#sentBytes()
    let sentAt = performance.now()
    while (performance.now() < until && this.#isNeeded()) {
      signal.throwIfAborted()
      if (this.#sentBytes() > sentBytes || this.#peers().some((peer) => peer.waitingRequests > 0)) {
        sentBytes = this.#sentBytes()
        sentAt = performance.now()
      }
      if (performance.now() - sentAt > idleMsMax) break
      if (until - performance.now() < leaveMs && !this.#isLeaving) {
        this.#isLeaving = true
        this.#tracker?.announceNow()
      }
      await delay(tickMs, undefined, { signal })
    }
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort(new Error('the swarm was left'))
    clearInterval(this.#tick)
    this.#fail(new Error('the swarm was left'))
    // Peers first: whom we fed turns to others at once, and not when the tracker has heard of it.
    for (const source of this.#sources.values()) source.close()
    await Promise.all([this.#tracker?.close(), this.#listener.close()])
    await this.#store.close()
  }

  // What sources tell.

  #events(): PeerSwarm['events'] {
    return {
      onReady: (peer) => {
        const { id } = peer
        // It takes the place of an older connection to the same peer.
        if (this.#sources.has(id)) this.#schedule.removeSource(id)
        this.#sources.set(id, peer)
        this.#names.set(id, plainAddress(peer.ip))
        this.#schedule.addSource(id, peer.kind, performance.now())
        this.#kick()
      },
      onHave: (source, pieces) => {
        this.#schedule.sourceHas(source.id, pieces)
        this.#kick()
      },
      onNever: (peer, pieces) => {
        this.#schedule.sourceNeverHas(peer.id, pieces)
        this.#kick()
      },
      onDontHave: (source, piece) => this.#schedule.sourceLacks(source.id, piece),
      onBytes: (source, bytes) => this.#onBytes(source, bytes),
      onPiece: (source, piece, bytes) => this.#onPiece(source, piece, bytes),
      onRefused: (source, piece) => {
        this.#schedule.refused(source.id, piece)
        this.#kick()
      },
      onClosed: (source, reason) => {
        if (this.#sources.get(source.id) !== source) return
        this.#sources.delete(source.id)
        if (source instanceof Peer) this.#sentBefore += source.sentBytes
        this.#schedule.removeSource(source.id)
        this.#retryAt.set(source.id, performance.now() + reconnectMs)
        const name = this.#names.get(source.id) ?? source.id
        if (reason !== undefined) this.#options.log(`${source.kind} ${name} is gone: ${reason.message}`)
        if (source.kind === 'stranger') this.#forget(source.id)
        else if (this.#route?.sources.some(([first]) => first?.peerId === source.id)) this.#tracker?.announceNow()
        this.#kick()
      },
    }
  }

  /** Strangers may come any number of times, each time under another id: they are remembered together. */
  #forget(id: string): void {
    this.#received.set('strangers', (this.#received.get('strangers') ?? 0) + (this.#received.get(id) ?? 0))
    for (const map of [this.#received, this.#names, this.#retryAt, this.#strays]) map.delete(id)
  }

  #onBytes(source: PieceSource, bytes: number): void {
    const now = performance.now()
    this.#receivedBytes += bytes
    this.#received.set(source.id, (this.#received.get(source.id) ?? 0) + bytes)
    this.#schedule.heard(source.id, bytes, now)
    this.#rate.bytes += bytes
  }

  #onPiece(source: PieceSource, piece: number, bytes: Buffer): void {
    if (!this.#schedule.arrived(source.id, piece, performance.now())) return
    const expected = this.#options.torrent.info.pieceHashes.subarray(piece * 20, piece * 20 + 20)
    if (bytes.length <= hashHereBytesMax) {
      this.#onHashed(source, piece, bytes, hash('sha1', bytes, 'buffer').equals(expected))
      return
    }
    crypto.subtle.digest('SHA-1', bytes as Uint8Array<ArrayBuffer>).then(
      (digest) => this.#onHashed(source, piece, bytes, Buffer.from(digest).equals(expected)),
      (error: unknown) => this.#fail(error),
    )
  }

  #onHashed(source: PieceSource, piece: number, bytes: Buffer, isRight: boolean): void {
    if (this.#closing.signal.aborted) return
    if (!isRight) this.#onCorrupt(source, piece)
    else if (!this.#store.put(piece, bytes)) this.#schedule.lost(piece)
    else {
      this.#progressAt = performance.now()
      this.#schedule.verified(piece)
      for (const other of this.#sources.values()) if (other instanceof Peer) other.have([piece])
      this.#arrivals.push(piece)
      if (this.isComplete) this.#complete()
      this.#wake()
    }
    this.#kick()
  }

  #onCorrupt(source: PieceSource, piece: number): void {
    const name = this.#names.get(source.id) ?? source.id
    this.#options.log(`${source.kind} ${name} sent piece ${piece} with a wrong hash`)
    this.#schedule.corrupt(source.id, piece)
    if (source.kind !== 'web-seed') {
      source.close(new Error(`it sent piece ${piece} with a wrong hash`))
      return
    }
    this.#webCorrupt += 1
    if (this.#webCorrupt > webCorruptMax) {
      this.#fail(new Failure('image-corrupt', `${source.id} does not have the bytes that its torrent promises`))
    }
  }

  #onDropped(piece: number): void {
    if (!this.#released.has(piece)) this.#schedule.lost(piece)
    for (const source of this.#sources.values()) if (source instanceof Peer) source.dontHave([piece])
  }

  /** Whether some peer that we may pass pieces on to still lacks this one. */
  #isWanted(piece: number): boolean {
    for (const source of this.#sources.values()) {
      if (source.kind !== 'web-seed' && this.#schedule.isWantedBy(source.id, piece)) return true
    }
    return false
  }

  #refuse({ peerId, direction, ip }: PeerCandidate): string | undefined {
    if (this.#closing.signal.aborted) return 'the swarm was left'
    const named = [...(this.#route?.sources.flat() ?? []), ...(this.#route?.successors ?? [])]
    const owner = named.find((peer) => peer.peerId === peerId)
    if (owner !== undefined && owner.ip !== plainAddress(ip)) return `it has the peer id of the host at ${owner.ip}`
    if (this.#schedule.isBanned(peerId)) return 'it has sent pieces with wrong hashes'
    const present = this.#sources.get(peerId)
    if (!(present instanceof Peer)) return undefined
    // When two dial each other at once, both keep the connection that the smaller id has opened. One that a peer opens anew
    // tells that the old one is dead.
    const openedBy = direction === 'incoming' ? peerId : this.#peerId
    const isBetter =
      present.direction === direction ? direction === 'incoming' : openedBy === smaller(peerId, this.#peerId)
    if (!isBetter) return 'there is a connection to it already'
    present.close(new Error('there is a newer connection to it'))
    return undefined
  }

  /** At our site. Who comes before our route names it, and stock clients, may stand anywhere. */
  #isNear(peerId: string): boolean {
    const { sources = [], successors = [], far = [] } = this.#route ?? {}
    const isNamed = [...sources, successors].some((peers) => peers.some((peer) => peer.peerId === peerId))
    return isNamed && !far.includes(peerId)
  }

  // What the tracker tells.

  #onRoute(route: Route): void {
    this.#route = route
    this.#shareSiteCaps(route)
    this.#schedule.setRoute(route, performance.now())
    this.#addWebSeeds()
    const now = performance.now()
    for (const peer of route.sources.flat()) this.#reach(peer, now)
    this.#kick()
  }

  /** Each stripe crosses the border of a site at one host: that has the stripe's part of the site's cap. */
  #shareSiteCaps({ stripes, sources, far }: Route): void {
    const { siteEgressBytesPerSecond: egress, siteIngressBytesPerSecond: ingress } = this.#options
    const entering = sources.filter(([first]) => first === undefined || far.includes(first.peerId)).length
    // Who is no crossing now and becomes one while others fail has a part too.
    if (ingress !== undefined) this.#siteIngress?.setRate((ingress * Math.max(1, entering)) / stripes)
    if (egress !== undefined) this.#siteEgress?.setRate(egress / stripes)
  }

  /** Nobody names a predecessor: the web seeds give everything, until somebody does. */
  #askWebSeeds(): void {
    if (this.#route !== undefined || this.#closing.signal.aborted) return
    this.#addWebSeeds()
    this.#kick()
  }

  #addWebSeeds(): void {
    for (const url of this.#options.webSeeds) {
      if (this.#sources.has(url)) continue
      const { onReady: _, onNever: _never, ...events } = this.wire.events
      const seed = new WebSeed(events, { url, geometry: this.#geometry, ingress: this.#webIngress })
      this.#sources.set(url, seed)
      this.#schedule.addSource(url, 'web-seed', performance.now())
    }
  }

  #reach(peer: SwarmPeer, now: number): void {
    const { peerId } = peer
    if (this.#sources.has(peerId) || this.#connecting.has(peerId) || peerId === this.#peerId) return
    if (this.#schedule.isBanned(peerId) || now < (this.#retryAt.get(peerId) ?? 0)) return
    this.#connecting.add(peerId)
    connectPeer(this.wire, peer, this.#closing.signal).then(
      () => this.#connecting.delete(peerId),
      (error: Error) => {
        this.#connecting.delete(peerId)
        this.#retryAt.set(peerId, performance.now() + reconnectMs)
        if (this.#closing.signal.aborted || this.#sources.has(peerId)) return
        this.#options.log(causeChain(error).join(': '))
        this.#schedule.removeSource(peerId)
        this.#kick()
      },
    )
  }

  #status() {
    const { wanted } = this.#options
    const verified = this.#bytesOf(this.#schedule.verifiedPieces)
    const wantedBytes = this.#bytesOf(wanted?.size ?? pieceCount(this.#geometry))
    const rate = Math.round(this.#rate.bytesPerSecond)
    return {
      have: this.#schedule.verifiedPieces,
      rate,
      slow: this.#schedule.takeComplaints().filter((id) => !this.#options.webSeeds.includes(id)),
      lagMs: rate === 0 ? 0 : Math.round((this.#store.counters().unwrittenBytes * 1000) / rate),
      isLeaving: this.#isLeaving,
      isPartial: wanted !== undefined,
      uploaded: this.#sentBytes(),
      downloaded: this.#receivedBytes,
      left: this.isComplete ? 0 : wantedBytes - verified,
    }
  }

  // What we do.

  /** Asks what the scheduler says, once for all that happens in one turn. */
  #kick(): void {
    if (this.#isKicked || this.#closing.signal.aborted) return
    this.#isKicked = true
    queueMicrotask(() => {
      this.#isKicked = false
      this.#ask()
    })
  }

  #ask(): void {
    if (this.#closing.signal.aborted) return
    const { pieceBytes } = this.#geometry
    // A taker that waits for pieces must get some, however full the store: those it has are not whole frames yet.
    const room = Math.max(this.#store.roomBytes, this.#isTakerIdle ? minRoomBytes : 0)
    this.#schedule.setRoom(Math.ceil(room / pieceBytes))
    for (const { kind, source, pieces } of this.#schedule.decide(performance.now())) {
      const asked = this.#sources.get(source)
      if (kind === 'request') asked?.request(pieces)
      else for (const piece of pieces) asked?.cancel(piece)
    }
  }

  #onTick(): void {
    const now = performance.now()
    const elapsedMs = now - this.#rate.at
    if (elapsedMs >= 1000) {
      this.#rate = { at: now, bytes: 0, bytesPerSecond: (this.#rate.bytes * 1000) / elapsedMs }
      this.#sweep(now)
    }
    if (!this.isComplete) this.#judgeProgress(now - this.#progressAt)
    this.#ask()
  }

  #judgeProgress(idleMs: number): void {
    if (idleMs <= goneMsMax) return
    const seeds = [...this.#sources.values()].filter((source) => source instanceof WebSeed).map((seed) => seed.status())
    const cause = seeds.find(({ lastError }) => lastError !== undefined)?.lastError
    if (seeds.length > 0 && seeds.every(({ isGone }) => isGone)) {
      this.#fail(new Failure('origin-error', 'the image is gone from the origin, and no host has the rest', { cause }))
    } else if (idleMs > noProgressMsMax) {
      const seconds = noProgressMsMax / 1000
      this.#fail(new Failure('origin-unreachable', `nothing came for ${seconds} s, from no source`, { cause }))
    }
  }

  /** Reaches for sources that are not connected, and lets connections go that no route names. */
  #sweep(now: number): void {
    const named = new Set<string>()
    for (const peer of this.#route?.sources.flat() ?? []) {
      named.add(peer.peerId)
      if (!this.isComplete) this.#reach(peer, now)
    }
    for (const peer of this.#peers()) {
      if (peer.direction === 'incoming' || named.has(peer.id)) this.#strays.delete(peer.id)
      else if (!this.#strays.has(peer.id)) this.#strays.set(peer.id, now)
      else if (now - (this.#strays.get(peer.id) ?? now) > strayMsMax) peer.close()
    }
  }

  #isNeeded(): boolean {
    return this.#peers().some((peer) => !this.#schedule.hasAll(peer.id))
  }

  #peers(): Peer[] {
    return [...this.#sources.values()].filter((source) => source instanceof Peer)
  }

  #sentBytes(): number {
    return this.#peers().reduce((sum, peer) => sum + peer.sentBytes, this.#sentBefore)
  }

  #bytesOf(pieces: number): number {
    const total = pieceCount(this.#geometry)
    return pieces === total ? this.#geometry.totalBytes : pieces * pieceLength(this.#geometry, 0)
  }

  #wake(): void {
    this.#wakeTaker?.()
    this.#wakeTaker = undefined
  }

  #fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error('the swarm failed', { cause: error })
    this.#wake()
  }
}

/**
 * Memory for pieces, cut from slabs: fresh memory for each piece costs the kernel and the collector a third of the
 * throughput. A slab is free when all its pieces are; those of one slab come, and go, at about the same time.
 */
function slabs(): (bytes: number) => Buffer {
  let slab = Buffer.allocUnsafeSlow(0)
  let used = 0
  return (bytes) => {
    if (used + bytes > slab.length) {
      slab = Buffer.allocUnsafeSlow(Math.max(slabBytes, bytes))
      used = 0
    }
    used += bytes
    return slab.subarray(used - bytes, used)
  }
}

function bucketOf(bytesPerSecond: number | undefined): TokenBucket | undefined {
  if (bytesPerSecond === undefined) return undefined
  return new TokenBucket({ bytesPerSecond, burstBytes: Math.max(64 * 1024, bytesPerSecond / 10) })
}

/** The pieces that we shall never hold. */
function neverOf(wanted: ReadonlySet<number> | undefined, geometry: PieceGeometry): ReadonlySet<number> | undefined {
  if (wanted === undefined) return undefined
  return new Set(
    Array.from({ length: pieceCount(geometry) }, (_, piece) => piece).filter((piece) => !wanted.has(piece)),
  )
}

function smaller(a: string, b: string): string {
  return a < b ? a : b
}
