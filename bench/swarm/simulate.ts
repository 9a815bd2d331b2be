// The real scheduler under a virtual clock: thousands of agents in racks with oversubscribed up-links and sites behind a
// WAN. Links are first come, first served and carry a piece as it comes (cut-through); agents pass on what they have been
// asked for in turn. The routes are the real tracker's.
import { type PieceGeometry, pieceCount, pieceLength, type Route, type SwarmPeer } from '../../src/model/swarm.ts'
import { agentDelayMs } from '../../src/swarm/peer-news.ts'
import { Schedule } from '../../src/swarm/schedule.ts'
import { Tracker } from '../../src/swarm/tracker.ts'

export type World = {
  readonly geometry: PieceGeometry
  readonly nodes: number
  /** Bytes a second of each host's link, each way, and of the origin's. */
  readonly linkBytesPerSecond: number
  readonly originBytesPerSecond: number
  readonly rackSize: number
  /** What the hosts of a rack could send or take in all, to what its up-link carries. */
  readonly rackOversubscription: number
  readonly racksPerSite: number
  /** Bytes a second between the sites, each way; the origin is at the first one. */
  readonly wanBytesPerSecond: number
  readonly latencyMs: number
  readonly wanLatencyMs: number
  /** Each host joins at a random moment within so long. */
  readonly startSpreadMs: number
  readonly faults?: readonly VirtualFault[]
  readonly seed: number
}

/**
 * What happens to a part of the hosts, each hit by one fault at most: killed, slowed down to a part of the rate, late, or
 * stalled: the processor does something else for a while, and connections stay.
 */
export type VirtualFault = {
  readonly kind: 'kill' | 'slow' | 'late' | 'stall'
  readonly part: number
  readonly atMs: number
  readonly rate?: number
  readonly durationMs?: number
  /** A host stalls so many times, at a random moment of each `everyMs`. */
  readonly times?: number
  readonly everyMs?: number
}

export type Outcome = {
  readonly doneMs: readonly number[]
  readonly lastMs: number
  readonly medianMs: number
  /** Of those that no fault has hit. */
  readonly othersLastMs: number
  readonly limitMs: number
  readonly originCopies: number
  readonly rackCopiesMax: number
  readonly siteCopiesMax: number
  readonly depthMax: number
}

const webSeed = 'http://origin/'
const tickMs = 100
/**
 * So much of one connection is under way at most, or what keeps the longest way full: what waits beyond it can still be called
 * back.
 */
const flowBytesMin = 256 * 1024
/** A run that takes longer than so many times the limit has gone wrong. */
const giveUpFactor = 30

class Link {
  #bytesPerMs: number
  #freeAt = 0
  bytes = 0

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000
  }

  slowDown(rate: number): void {
    this.#bytesPerMs *= rate
  }

  /** When the first byte enters, which came at `at`; `untilMs` after it the last one has. */
  carry(bytes: number, at: number): { readonly from: number; readonly until: number } {
    const from = Math.max(at, this.#freeAt)
    this.#freeAt = from + bytes / this.#bytesPerMs
    this.bytes += bytes
    return { from, until: this.#freeAt }
  }
}

/**
 * Things to do at moments to come, in the order of their tenths of a millisecond, and in the order of their coming within
 * one; each still runs at its exact moment.
 */
class Agenda {
  readonly #buckets = new Map<number, { readonly atMs: number; readonly action: () => void }[]>()
  #bucket = 0
  #pending = 0
  #now = 0

  get now(): number {
    return this.#now
  }

  add(atMs: number, action: () => void): void {
    const at = Math.max(this.#bucket, Math.floor(atMs * 10))
    const bucket = this.#buckets.get(at)
    if (bucket === undefined) this.#buckets.set(at, [{ atMs, action }])
    else bucket.push({ atMs, action })
    this.#pending += 1
  }

  run(untilMs: number, isOver: () => boolean): void {
    for (; this.#pending > 0 && this.#now < untilMs; this.#bucket++) {
      const bucket = this.#buckets.get(this.#bucket)
      if (bucket === undefined) continue
      // Actions may add to the very bucket that is being worked through: no iterator over a copy.
      for (let index = 0; index < bucket.length; index++) {
        const item = bucket[index]
        if (item === undefined) break
        this.#now = item.atMs
        item.action()
      }
      this.#pending -= bucket.length
      this.#buckets.delete(this.#bucket)
      if (isOver()) return
    }
  }
}

/** Who sends pieces: to whom it is asked by in turn, one at a time. */
type Sender = {
  readonly id: string
  readonly up: Link
  /** Where it stands; the origin stands in no rack, at the first site. */
  readonly rack: number | undefined
  readonly site: number
  readonly uploads: Map<Node, Upload>
  isSending: boolean
  turn: number
  stalledUntilMs: number
}

type Upload = { readonly to: Node; readonly ready: number[]; readonly parked: Set<number>; underWayBytes: number }

type Node = Sender & {
  readonly name: string
  readonly schedule: Schedule
  readonly down: Link
  readonly rack: number
  readonly sources: Set<Node>
  readonly tells: Set<Node>
  news: number[]
  startMs: number
  doneMs: number
  isDead: boolean
  isHit: boolean
  routeVersion: number | undefined
}

export function simulate(world: World): Outcome {
  const simulation = new Simulation(world)
  return simulation.run()
}

/** The lower bound: every link that a whole copy must cross, and the longest way there. */
export function limitMsOf(world: World): number {
  const narrowest = Math.min(
    world.linkBytesPerSecond,
    world.originBytesPerSecond,
    rackBytesPerSecond(world),
    world.nodes > world.rackSize * world.racksPerSite ? world.wanBytesPerSecond : Number.POSITIVE_INFINITY,
  )
  return (world.geometry.totalBytes * 1000) / narrowest
}

function rackBytesPerSecond(world: World): number {
  return (world.rackSize * world.linkBytesPerSecond) / world.rackOversubscription
}

class Simulation {
  readonly #world: World
  readonly #agenda = new Agenda()
  readonly #tracker = new Tracker({ firstVersion: 1 })
  readonly #nodes: Node[]
  readonly #byId = new Map<string, Node>()
  readonly #origin: Sender
  readonly #rackLinks: { readonly up: Link; readonly down: Link }[]
  readonly #siteLinks: { readonly up: Link; readonly down: Link }[]
  readonly #count: number
  readonly #flowBytes: number
  readonly #random: () => number
  #done = 0
  #depthMax = 0

  constructor(world: World) {
    this.#world = world
    this.#count = pieceCount(world.geometry)
    const wayBytes = (world.linkBytesPerSecond * world.wanLatencyMs) / 1000
    this.#flowBytes = Math.max(flowBytesMin, 2 * world.geometry.pieceBytes + wayBytes)
    const random = mulberry32(world.seed)
    this.#random = mulberry32(world.seed + 2)
    this.#origin = {
      id: webSeed,
      up: new Link(world.originBytesPerSecond),
      rack: undefined,
      site: 0,
      uploads: new Map(),
      isSending: false,
      turn: 0,
      stalledUntilMs: 0,
    }
    this.#nodes = Array.from({ length: world.nodes }, (_, index) => {
      const rack = Math.floor(index / world.rackSize)
      const id = index.toString(16).padStart(40, '0')
      const node: Node = {
        id,
        name: `n${index}`,
        schedule: new Schedule(world.geometry, { jitterMs: random() * 1000 }),
        up: new Link(world.linkBytesPerSecond),
        down: new Link(world.linkBytesPerSecond),
        rack,
        site: Math.floor(rack / world.racksPerSite),
        uploads: new Map(),
        sources: new Set(),
        tells: new Set(),
        news: [],
        isSending: false,
        turn: 0,
        stalledUntilMs: 0,
        startMs: random() * world.startSpreadMs,
        doneMs: Number.POSITIVE_INFINITY,
        isDead: false,
        isHit: false,
        routeVersion: undefined,
      }
      this.#byId.set(id, node)
      return node
    })
    const racks = (this.#nodes.at(-1)?.rack ?? 0) + 1
    const sites = (this.#nodes.at(-1)?.site ?? 0) + 1
    const pair = (bytesPerSecond: number) => ({ up: new Link(bytesPerSecond), down: new Link(bytesPerSecond) })
    this.#rackLinks = Array.from({ length: racks }, () => pair(rackBytesPerSecond(world)))
    this.#siteLinks = Array.from({ length: sites }, () => pair(world.wanBytesPerSecond))
  }

  run(): Outcome {
    const random = mulberry32(this.#world.seed + 1)
    const unhit = this.#nodes.toSorted(() => random() - 0.5)
    for (const fault of this.#world.faults ?? []) {
      for (const node of unhit.splice(0, Math.ceil(fault.part * this.#nodes.length))) this.#plan(node, fault)
    }
    for (const node of this.#nodes) this.#agenda.add(node.startMs, () => this.#start(node))
    const limitMs = limitMsOf(this.#world)
    this.#agenda.run(limitMs * giveUpFactor, () => this.#done === this.#nodes.length)
    const living = this.#nodes.filter(({ isDead }) => !isDead)
    const sorted = living.map(({ doneMs }) => doneMs).toSorted((a, b) => a - b)
    const copies = (links: readonly { readonly down: Link }[]) =>
      Math.max(...links.map(({ down }) => down.bytes)) / this.#world.geometry.totalBytes
    return {
      doneMs: this.#nodes.map(({ doneMs }) => doneMs),
      lastMs: sorted.at(-1) ?? 0,
      medianMs: sorted[sorted.length >> 1] ?? 0,
      othersLastMs: Math.max(...this.#nodes.filter(({ isHit }) => !isHit).map(({ doneMs }) => doneMs)),
      limitMs,
      originCopies: this.#origin.up.bytes / this.#world.geometry.totalBytes,
      rackCopiesMax: copies(this.#rackLinks),
      siteCopiesMax: copies(this.#siteLinks),
      depthMax: this.#depthMax,
    }
  }

  #plan(node: Node, { kind, atMs, rate = 0.1, durationMs = 0, times = 1, everyMs = 0 }: VirtualFault): void {
    node.isHit = true
    if (kind === 'late') node.startMs += atMs
    else if (kind === 'kill') this.#agenda.add(atMs, () => this.#kill(node))
    else if (kind === 'stall') {
      for (let time = 0; time < times; time++) {
        const at = atMs + (time + (everyMs > 0 ? this.#random() : 0)) * everyMs
        this.#agenda.add(at, () => this.#stall(node, durationMs))
      }
    } else {
      this.#agenda.add(atMs, () => {
        node.up.slowDown(rate)
        node.down.slowDown(rate)
      })
    }
  }

  /** Its connections are reset; what is on its way from it still arrives. */
  #kill(node: Node): void {
    if (node.isDead || Number.isFinite(node.doneMs)) return
    node.isDead = true
    this.#done += 1
    for (const other of node.tells) {
      this.#agenda.add(this.#agenda.now + this.#latency(node, other), () => {
        other.sources.delete(node)
        other.schedule.removeSource(node.id)
        this.#decide(other)
      })
    }
    this.#origin.uploads.delete(node)
    for (const source of node.sources) {
      source.uploads.delete(node)
      source.tells.delete(node)
    }
  }

  /** What comes meanwhile is dealt with afterwards, in its order. */
  #stall(node: Node, durationMs: number): void {
    node.stalledUntilMs = Math.max(node.stalledUntilMs, this.#agenda.now + durationMs)
    this.#agenda.add(node.stalledUntilMs, () => this.#send(node))
  }

  #start(node: Node): void {
    node.schedule.addSource(webSeed, 'web-seed', this.#agenda.now)
    // As long as nobody names a predecessor nothing is asked: an agent waits for its first route.
    node.schedule.setRoom(0)
    this.#announce(node)
    const tick = () => {
      if (node.isDead) return
      if (node.stalledUntilMs <= this.#agenda.now) this.#decide(node)
      if (!node.schedule.isComplete) this.#agenda.add(this.#agenda.now + tickMs, tick)
    }
    tick()
  }

  #announce(node: Node): void {
    if (node.isDead) return
    const { now } = this.#agenda
    const { schedule } = node
    const left = this.#count - schedule.verifiedPieces
    const answer = this.#tracker.announce(
      {
        infoHash: '0'.repeat(40),
        peerId: node.id,
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left,
        event: undefined,
        isCompact: true,
        noPeerId: true,
        numwant: 0,
        ipv6: undefined,
        key: undefined,
        agent: {
          have: schedule.verifiedPieces,
          rate: 0,
          slow: schedule.takeComplaints().filter((id) => id !== webSeed),
          lagMs: 0,
          route: node.routeVersion,
          isLeaving: false,
          isPartial: false,
        },
      },
      {
        kind: 'agent',
        host: node.name,
        site: `s${node.site}`,
        rack: `r${node.rack}`,
        address: '10.0.0.1',
        pieces: this.#count,
      },
      now,
    )
    if (!('agent' in answer) || answer.agent === undefined) throw new Error(`the tracker refused ${node.name}`)
    const { route, nextMs } = answer.agent
    if (route !== undefined) this.#follow(node, route)
    if (left > 0) this.#agenda.add(now + nextMs, () => this.#announce(node))
  }

  #follow(node: Node, route: Route): void {
    node.routeVersion = route.version
    this.#depthMax = Math.max(this.#depthMax, ...route.depth)
    node.schedule.setRoom(Number.POSITIVE_INFINITY)
    node.schedule.setRoute(route, this.#agenda.now)
    for (const line of route.sources) for (const peer of line) this.#connect(node, peer)
    this.#decide(node)
  }

  #connect(node: Node, peer: SwarmPeer): void {
    const source = this.#byId.get(peer.peerId)
    if (source === undefined || node.sources.has(source)) return
    if (source.isDead) {
      node.schedule.removeSource(source.id)
      return
    }
    node.sources.add(source)
    source.tells.add(node)
    node.schedule.addSource(source.id, 'agent', this.#agenda.now)
    const held: number[] = []
    for (let piece = 0; piece < this.#count; piece++) if (source.schedule.isVerified(piece)) held.push(piece)
    node.schedule.sourceHas(source.id, held)
  }

  #decide(node: Node): void {
    const { now } = this.#agenda
    for (const ask of node.schedule.decide(now)) {
      const isOrigin = ask.source === webSeed
      const sender = isOrigin ? this.#origin : this.#byId.get(ask.source)
      if (sender === undefined) continue
      this.#agenda.add(now + this.#latency(sender, node), () => {
        if (node.isDead || this.#byId.get(sender.id)?.isDead === true) return
        const upload = uploadTo(sender, node)
        for (const piece of ask.pieces) {
          if (ask.kind === 'cancel') {
            upload.parked.delete(piece)
            const at = upload.ready.indexOf(piece)
            if (at >= 0) upload.ready.splice(at, 1)
          } else if (isOrigin || this.#byId.get(sender.id)?.schedule.isVerified(piece)) upload.ready.push(piece)
          else upload.parked.add(piece)
        }
        this.#send(sender)
      })
    }
  }

  #latency(a: Sender, b: Sender): number {
    return a.site === b.site ? this.#world.latencyMs : this.#world.wanLatencyMs
  }

  /** Sends one piece to whose turn it is, and the next when that one has left. */
  #send(sender: Sender): void {
    if (sender.isSending || sender.stalledUntilMs > this.#agenda.now) return
    if (this.#byId.get(sender.id)?.isDead === true) return
    const uploads = [...sender.uploads.values()]
    for (let step = 0; step < uploads.length; step++) {
      const upload = uploads[(sender.turn + step) % uploads.length]
      if (upload === undefined || upload.underWayBytes >= this.#flowBytes) continue
      const piece = upload.ready.shift()
      if (piece === undefined) continue
      sender.turn = (sender.turn + step + 1) % uploads.length
      sender.isSending = true
      const left = sender.up.carry(pieceLength(this.#world.geometry, piece), this.#agenda.now)
      this.#agenda.add(left.until, () => {
        sender.isSending = false
        this.#send(sender)
      })
      this.#travel(sender, upload, piece, left)
      return
    }
  }

  #travel(from: Sender, upload: Upload, piece: number, left: { from: number; until: number }): void {
    const { to } = upload
    const bytes = pieceLength(this.#world.geometry, piece)
    const path: Link[] = []
    if (from.rack !== to.rack && from.rack !== undefined) path.push(this.#rackLinks[from.rack]?.up ?? never())
    if (from.site !== to.site) {
      path.push(this.#siteLinks[from.site]?.up ?? never(), this.#siteLinks[to.site]?.down ?? never())
    }
    if (from.rack !== to.rack) path.push(this.#rackLinks[to.rack]?.down ?? never())
    path.push(to.down)
    let at = left.from
    let last = left.until
    for (const link of path) {
      const carried = link.carry(bytes, at)
      at = carried.from
      last = Math.max(last, carried.until)
    }
    upload.underWayBytes += bytes
    this.#agenda.add(last + this.#latency(from, to), () => {
      const wasFull = upload.underWayBytes >= this.#flowBytes
      upload.underWayBytes -= bytes
      if (wasFull) this.#send(from)
      this.#arrive(from.id, to, piece, bytes)
    })
  }

  #arrive(source: string, node: Node, piece: number, bytes: number): void {
    if (node.isDead) return
    const { now } = this.#agenda
    if (node.stalledUntilMs > now) {
      this.#agenda.add(node.stalledUntilMs, () => this.#arrive(source, node, piece, bytes))
      return
    }
    node.schedule.heard(source, bytes, now)
    if (node.schedule.arrived(source, piece, now)) {
      node.schedule.verified(piece)
      for (const upload of node.uploads.values()) if (upload.parked.delete(piece)) upload.ready.push(piece)
      this.#send(node)
      if (node.news.push(piece) === 1) this.#agenda.add(now + agentDelayMs, () => this.#tell(node))
      if (node.schedule.isComplete) {
        node.doneMs = now
        this.#done += 1
        return
      }
    }
    this.#decide(node)
  }

  #tell(node: Node): void {
    const { news } = node
    node.news = []
    for (const other of node.tells) other.schedule.sourceHas(node.id, news)
  }
}

function uploadTo(sender: Sender, node: Node): Upload {
  const upload = sender.uploads.get(node) ?? { to: node, ready: [], parked: new Set(), underWayBytes: 0 }
  sender.uploads.set(node, upload)
  return upload
}

function never(): never {
  throw new Error('a host is in no rack or site')
}

/** A small random generator with a seed (Tommy Ettinger, public domain). */
function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
