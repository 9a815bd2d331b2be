// Who gets the image from whom, worked out from the members of a swarm alone. Pure.
//
// Where up-link, down-link and origin are equally fast, N copies must leave N + 1 up-links: only a structure in which every
// up-link carries every byte exactly once comes near the limit (Mundinger, Weber, Weiss 2008). For a few hosts that is a
// pipeline in the order of the topology. A pipeline of N hosts is full after N pieces; when that is too many, the pieces are
// dealt out to two stripes, each going down a binary tree in which half of the hosts pass on and the other half only take,
// with the parts exchanged in the other tree (Sanders, Speck, Träff 2009). Racks and sites are trees of their own around
// those: one copy enters each.
//
// Whoever comes or goes changes the place of few others: a host with a new predecessor waits until that one has caught up
// with it, and trees that are planned anew bring everybody to a standstill.
import type { Route, SwarmPeer } from '../model/swarm.ts'

export type Member = {
  readonly id: string
  readonly peer: SwarmPeer
  readonly site: string | undefined
  readonly rack: string | undefined
  /**
   * Orders the members of a rack, the racks of a site and the sites, each by their first: by the moment of joining, so that who
   * comes later stands at the end. In the middle it would cut everybody behind it off until it had caught up.
   */
  readonly order: number
  /** Grows with the tracker's: who joined when others were already far comes behind those, whom it cannot feed. */
  readonly generation: number
  /** Too slow to pass anything on: it takes from the end of the line and nobody takes from it. */
  readonly isStraggler: boolean
  /** About to go: it serves whom it can and is nobody's first choice. */
  readonly isLeaving: boolean
  /** It will never have some of the pieces: it stands behind all who need every one. */
  readonly isPartial: boolean
  /** Where it stood in the last plan, if it did. */
  readonly seat?: Seat | undefined
}

/** Where a host stands in the trees, and its rack among the racks: for each stripe the place in the line of those. */
export type Seat = Place & { readonly rack: Place }

type Place = {
  /** Which stripe it passes on to others. */
  readonly stripe: number
  readonly places: readonly number[]
}

export type Planned = { readonly route: Omit<Route, 'version'>; readonly seat: Seat | undefined }

/** Beyond this part of the transfer, filling one pipeline costs more than two trees lose by sharing links. */
const pipelineFillMax = 0.04

/** Runs of one stripe: so long that a web seed is asked for ranges, so short that the stripes keep in step. */
const stripePieces = 8

/** Whom to ask when the predecessor fails, at most: its predecessor, and so on. */
const standInsMax = 3

/** So many stragglers may hang on one host: together they take about as much as one host that is not slow. */
const stragglersMax = 8
/** So many hosts at the end of a generation take stragglers on. */
const endsMax = 16

type Node = {
  readonly member: Member
  readonly stripe: number
  /** In the line of its rack, for each stripe. */
  readonly places: number[]
  /** None for who hangs at the end. */
  readonly rack: Rack | undefined
  /** Whom it takes each stripe from; undefined until that is settled. */
  readonly parent: (Node | 'web-seed' | undefined)[]
  readonly depth: number[]
  /** How many more hosts it can pass a stripe on to without asking more of its up-link than one copy. */
  free: number
  stragglers: number
  readonly successors: Set<Node>
}

type Rack = { readonly stripe: number; readonly places: number[]; readonly nodes: Node[] }

/**
 * The route of each member, by its id, and its seat for the next plan. Members in any order; the same members with the same
 * seats always get the same routes. `stripesBefore` of the last plan keeps a swarm about the limit from turning from a
 * pipeline into trees and back.
 */
export function planRoutes(
  members: readonly Member[],
  options: { readonly pieces: number; readonly stripesBefore?: number | undefined },
): Map<string, Planned> {
  const sorted = members.toSorted(inOrder)
  const fit = sorted.filter((member) => !isLast(member))
  const pipelineMax = pipelineFillMax * options.pieces * (options.stripesBefore === 2 ? 1 / 2 : 1)
  const stripes = fit.length > Math.max(2, pipelineMax) ? 2 : 1
  const nodes: Node[] = []
  for (const generation of groupBy(fit, (member) => `${member.isPartial} ${member.generation}`)) {
    let gates: readonly Node[] = []
    const sites = groupBy(generation, (member) => member.site ?? '')
    for (const site of sites) {
      const isLastSite = site === sites.at(-1)
      gates = growSite(makeRacks(site, stripes), { stripes, nodes, gates, isLastSite })
    }
    for (const gate of gates) gate.free += 1
  }
  const ends = endsOf(nodes)
  for (const member of sorted.filter(isLast)) nodes.push(hangLeaf(member, stripes, ends))
  return new Map(nodes.map((node) => [node.member.id, { route: routeOf(node), seat: seatOf(node) }]))
}

function isLast(member: Member): boolean {
  return member.isStraggler || member.isLeaving
}

function inOrder(a: Member, b: Member): number {
  return Number(a.isPartial) - Number(b.isPartial) || a.generation - b.generation || a.order - b.order
}

function groupBy(members: readonly Member[], key: (member: Member) => string): (readonly Member[])[] {
  return [...Map.groupBy(members, key).values()]
}

function makeRacks(site: readonly Member[], stripes: number): Rack[] {
  const racks = groupBy(site, (member) => member.rack ?? '')
  const seatOfRack = (rack: readonly Member[]) => rack.find(({ seat }) => seat !== undefined)?.seat?.rack
  const dealt = dealStripes(racks.map(seatOfRack), stripes)
  return racks.map((rack, index) => {
    const own = dealStripes(
      rack.map(({ seat }) => seat),
      stripes,
      dealt[index],
    )
    const made: Rack = { stripe: dealt[index] ?? 0, places: [...(seatOfRack(rack)?.places ?? [])], nodes: [] }
    made.nodes.push(...rack.map((member, at) => makeNode(member, stripes, own[at] ?? 0, made)))
    return made
  })
}

/**
 * Which stripe each passes on: as many the one as the other, and `favoured` one more where they are odd; each what it did
 * before as far as that leaves it so.
 */
function dealStripes(before: readonly (Place | undefined)[], stripes: number, favoured = 0): number[] {
  const counts = Array.from({ length: stripes }, () => 0)
  const count = (stripe: number, by: number) => {
    counts[stripe] = (counts[stripe] ?? 0) + by
  }
  const dealt = before.map((place) => (place?.places.length === stripes ? place.stripe : undefined))
  for (const stripe of dealt) if (stripe !== undefined) count(stripe, 1)
  const fewest = () => (counts[favoured] === Math.min(...counts) ? favoured : counts.indexOf(Math.min(...counts)))
  const whole = dealt.map((stripe) => {
    if (stripe !== undefined) return stripe
    const given = fewest()
    count(given, 1)
    return given
  })
  const move = (most: number, given: number) => {
    whole[whole.lastIndexOf(most)] = given
    count(most, -1)
    count(given, 1)
  }
  const most = () => counts.indexOf(Math.max(...counts))
  while (Math.max(...counts) - Math.min(...counts) > 1) move(most(), fewest())
  if (counts[favoured] !== Math.max(...counts)) move(most(), favoured)
  return whole
}

/** Everybody at its place from `from` on, if there is such a place; the others fill the gaps in their order. */
function keepPlaces<Item>(items: readonly Item[], placeOf: (item: Item) => number | undefined, from: number): Item[] {
  const kept = new Map<number, Item>()
  const others: Item[] = []
  for (const item of items) {
    const place = (placeOf(item) ?? -1) - from
    if (place < 0 || place >= items.length || kept.has(place)) others.push(item)
    else kept.set(place, item)
  }
  const fill = others.values()
  return items.map((item, place) => kept.get(place) ?? fill.next().value ?? item)
}

function makeNode(member: Member, stripes: number, stripe: number, rack?: Rack): Node {
  return {
    member,
    stripe,
    places: [...(member.seat?.places ?? [])],
    rack,
    parent: Array.from({ length: stripes }, () => undefined),
    depth: Array.from({ length: stripes }, () => 0),
    free: stripes,
    stragglers: 0,
    successors: new Set(),
  }
}

/**
 * Grows the trees over the racks of one site and adds their hosts to `nodes`, the ones placed before. A rack has one copy
 * to pass on: of one stripe twice a half, and racks alternate in which, so that the tree of racks is as flat as that of
 * hosts. Stripe by stripe, each from its first rack on: whom a rack is to ask has been given the stripe before.
 *
 * `gates` are hosts of the site before, one a stripe, that keep a slot for this one; it returns its own for the next. They
 * are the first that the stripe comes to: from the last ones, where up-links are left over, every site would be a whole
 * tree further from the web seed.
 */
function growSite(
  racks: readonly Rack[],
  {
    stripes,
    nodes,
    gates,
    isLastSite,
  }: { stripes: number; nodes: Node[]; gates: readonly Node[]; isLastSite: boolean },
): Node[] {
  const earlier = [...nodes]
  const ownGates: Node[] = []
  const site = racks.flatMap((rack) => rack.nodes)
  nodes.push(...site)
  for (let stripe = 0; stripe < stripes; stripe++) {
    // Hosts that keep a part of their up-link for racks to come, the nearest to the web seed first.
    const exits: Node[] = []
    const order = lineUp(racks, stripe, stripes)
    for (const rack of order) {
      // Who passes this stripe on comes first; the others hang below and only take it, whoever can help out before the rest.
      const line = lineUp(rack.nodes, stripe, stripes, ({ free }) => stripe > 0 && free > 0)
      const [first] = line
      if (first === undefined) continue
      const isEntry = rack === order[0]
      const gate = isEntry ? gates.find((node) => node.stripe === stripe) : undefined
      if (gate !== undefined) gate.free += 1
      attach(first, gate ?? entryOf(first, stripe, { exits, site, earlier }), stripe)
      const isAlone = racks.length === 1
      const exitsMax = stripes > 1 && (isAlone || rack.stripe === stripe) ? (isAlone ? 1 : 2) : 0
      exits.push(...growRack(line, stripe, exitsMax))
      const ownGate = stripes > 1 && isEntry && (isAlone || !isLastSite) ? exits.shift() : undefined
      if (ownGate !== undefined) {
        ownGate.free -= 1
        ownGates.push(ownGate)
      }
      if (stripes === 1) exits.push(...rack.nodes.filter(({ free }) => free > 0))
    }
  }
  return ownGates
}

/** At most so many that can help out are brought forward: a rack lacks no more slots than it keeps for others. */
const helpersMax = 2

/**
 * Hosts of a rack or racks of a site in the order in which they are attached: who passes the stripe on, then the others, first
 * of those who can help out; all as they stood before. Their places are noted. A pipeline closes its gaps instead.
 */
function lineUp<Item extends { readonly stripe: number; readonly places: number[] }>(
  items: readonly Item[],
  stripe: number,
  stripes: number,
  isHelper: (item: Item) => boolean = () => false,
): readonly Item[] {
  if (stripes === 1) return items
  const placeOf = ({ places }: Item) => (places.length === stripes ? places[stripe] : undefined)
  const passing = items.filter((item) => item.stripe === stripe)
  const taking = items.filter((item) => item.stripe !== stripe)
  const line = [...keepPlaces(passing, placeOf, 0), ...keepPlaces(taking, placeOf, passing.length)]
  bringForward(line, passing.length, isHelper)
  for (const [place, item] of line.entries()) item.places[stripe] = place
  return line
}

function bringForward<Item>(line: Item[], from: number, isHelper: (item: Item) => boolean): void {
  for (let at = from; at < from + helpersMax; at++) {
    const [here, found] = [line[at], line.findIndex((item, index) => index > at && isHelper(item))]
    const helper = line[found]
    if (here === undefined || helper === undefined || isHelper(here)) continue
    line[at] = helper
    line[found] = here
  }
}

/** Hangs the hosts of a rack below its first one, level by level. Returns those that keep a slot each for others to come. */
function growRack(line: readonly Node[], stripe: number, keepingMax: number): Node[] {
  const slots: Node[] = []
  // The first hosts of a rack that feeds others keep the slots for them: from there the way on is short.
  const keeping = new Set<Node>()
  for (const [index, node] of line.entries()) {
    const helpOut = () => {
      // The last ones: they stand last in the other tree too, where one slot less then moves hardly anybody.
      const others = line
        .slice(0, index)
        .filter((other) => !keeping.has(other))
        .toReversed()
      return idleIn(others, stripe) ?? leastBurdened(others, stripe)
    }
    if (index > 0) attach(node, slots.shift() ?? helpOut(), stripe)
    if (node.stripe !== stripe) continue
    const keeps = keeping.size < keepingMax && node.free > 1
    if (keeps) keeping.add(node)
    for (let slot = keeps ? 1 : 0; slot < node.free; slot++) slots.push(node)
  }
  return [...keeping]
}

/** Whom the first host of a rack takes a stripe from. */
function entryOf(
  first: Node,
  stripe: number,
  { exits, site, earlier }: { exits: readonly Node[]; site: readonly Node[]; earlier: readonly Node[] },
): Node | 'web-seed' {
  const exit = exits.find(({ free }) => free > 0)
  if (exit !== undefined) return exit
  // Inside the site whatever it costs: the way into it is narrower.
  const within = idleIn(site, stripe) ?? leastBurdened(site, stripe)
  if (within !== undefined) return within
  // The first rack of a site or of a generation takes up an up-link that was left over, in its own rack if there is one.
  const idle = earlier.filter((node) => node.free > 0 && isFed(node, stripe))
  return nearest(first.member, idle.toReversed()) ?? leastBurdened(earlier, stripe) ?? 'web-seed'
}

function idleIn(nodes: readonly Node[], stripe: number): Node | undefined {
  return nodes.find((node) => node.free > 0 && isFed(node, stripe))
}

/** The last hosts of each generation, where it shows least that they serve one more. The last generation first. */
function endsOf(nodes: readonly Node[]): (readonly Node[])[] {
  const whole = nodes.filter(({ member }) => !member.isPartial)
  const generations = Map.groupBy(whole.length > 0 ? whole : nodes, ({ member }) => member.generation)
  return [...generations.values()].map((all) => all.slice(-endsMax).toReversed()).toReversed()
}

/**
 * A host that takes and passes nothing on. It hangs on the end of its own generation or an earlier one: who joined later
 * has less than it.
 */
function hangLeaf(member: Member, stripes: number, ends: readonly (readonly Node[])[]): Node {
  const leaf = { ...makeNode(member, stripes, 0), free: 0 }
  const ahead = ends.find(([last]) => last !== undefined && last.member.generation <= member.generation) ?? ends.at(-1)
  const spare = (ahead ?? []).filter((node) => node.stragglers < stragglersMax)
  const parent = spare[0] ?? ahead?.toSorted((a, b) => a.stragglers - b.stragglers)[0] ?? 'web-seed'
  leaf.parent.fill(parent)
  if (parent === 'web-seed') return leaf
  for (let stripe = 0; stripe < stripes; stripe++) leaf.depth[stripe] = (parent.depth[stripe] ?? 0) + 1
  parent.stragglers += 1
  parent.successors.add(leaf)
  return leaf
}

function isFed(node: Node, stripe: number): boolean {
  return node.parent[stripe] !== undefined
}

function nearest(member: Member, nodes: readonly Node[]): Node | undefined {
  const inRack = nodes.find((node) => node.member.site === member.site && node.member.rack === member.rack)
  return inRack ?? nodes.find((node) => node.member.site === member.site) ?? nodes[0]
}

/** Whoever has the stripe and most of its up-link left, were it less than none. */
function leastBurdened(nodes: readonly Node[], stripe: number): Node | undefined {
  const burden = ({ free, successors }: Node) => successors.size - free
  return nodes
    .filter((node) => isFed(node, stripe))
    .reduce<Node | undefined>(
      (best, node) => (best === undefined || burden(node) < burden(best) ? node : best),
      undefined,
    )
}

function attach(node: Node, parent: Node | 'web-seed' | undefined, stripe: number): void {
  node.parent[stripe] = parent ?? 'web-seed'
  if (parent === undefined || parent === 'web-seed') return
  node.depth[stripe] = (parent.depth[stripe] ?? 0) + 1
  parent.free = Math.max(0, parent.free - 1)
  parent.successors.add(node)
}

function routeOf(node: Node): Omit<Route, 'version'> {
  const far = new Set<string>()
  const name = ({ peer, site }: Member): SwarmPeer => {
    if (site !== node.member.site) far.add(peer.peerId)
    return peer
  }
  const sources = node.parent.map((parent, stripe) => {
    const line: SwarmPeer[] = []
    for (let at = parent; at !== undefined && at !== 'web-seed'; at = at.parent[stripe]) {
      line.push(name(at.member))
      if (line.length > standInsMax) break
    }
    return line
  })
  const successors = [...node.successors].map(({ member }) => name(member))
  return { stripes: node.parent.length, stripePieces, sources, depth: node.depth, successors, far: [...far] }
}

function seatOf({ stripe, places, rack }: Node): Seat | undefined {
  return rack && { stripe, places, rack: { stripe: rack.stripe, places: rack.places } }
}
