// The tracker: which swarms there are, who may be in them, and what each announce is answered. No sockets and no clock of its
// own; `nowMs` is a monotonic clock. State is rebuilt from announces after a restart. BEP 3, 7, 23, 48.
import type { Route, SwarmPeer } from '../model/swarm.ts'
import type { AnnounceAnswer, ListedPeer, Refusal, ScrapeCounts } from '../protocol/tracker-answer.ts'
import type { Announce } from '../protocol/tracker-wire.ts'
import { type Announcer, type TrackedMember, TrackedSwarm } from './tracked-swarm.ts'

export type TrackerOptions = {
  /**
   * Routes are numbered from here on. Give a larger number after each start, so that no agent takes a new route for the one
   * it has.
   */
  readonly firstVersion: number
  /** The seeder beside the origin, which strangers are told of. */
  readonly originOf?: (infoHash: string) => SwarmPeer | undefined
  readonly limits?: Partial<TrackerLimits>
}

export type TrackerLimits = {
  /** Agents of one swarm, and stock clients of one swarm. */
  readonly agentsMax: number
  readonly strangersMax: number
  /** Peers in one answer. */
  readonly peersMax: number
  /** The shortest interval of agents; it grows with their number. */
  readonly agentIntervalMs: number
}

export const trackerLimits: TrackerLimits = {
  agentsMax: 20_000,
  strangersMax: 500,
  peersMax: 50,
  agentIntervalMs: 1000,
}

/**
 * How far apart agents announce: the shortest interval for so many, and longer for more, so that the answers are no load on
 * the origin's link. Whose predecessor is gone turns to the next one by itself, and tells the tracker at once.
 */
const agentsAtShortest = 8
const intervalTimesMax = 5
/** aria2 announces at the smaller one, libtorrent and transmission at the larger. */
const strangerInterval = { seconds: 30, minSeconds: 5 }
/** How many announces may be missed before a member is forgotten, with half an interval for the way. */
const agentMisses = 4
const strangerMisses = 2
const sweepEveryMs = 250
/** A sweep that comes so late says that we were deaf, not that the members were silent. */
const deafMs = 1000
const earlyMsMin = 250
/** What is asked of the tracker at most while a swarm is young. */
const announcesPerSecondMax = 2000
/** Who waits for its first route asks again so long after the plan was due. */
const planSlackMs = 50
/** A swarm that nobody is in is kept so long for its count of completions. */
const emptyMs = 10 * 60 * 1000

/** One member, for operators. Times are of the tracker's clock. */
export type MemberView = {
  readonly id: string
  readonly kind: Announcer['kind']
  readonly host: string | undefined
  readonly site: string | undefined
  readonly rack: string | undefined
  readonly address: string
  readonly port: number
  readonly state: 'fetching' | 'seeding' | 'leaving'
  /** Verified pieces, only of agents. */
  readonly have: number | undefined
  readonly rate: number | undefined
  readonly lagMs: number | undefined
  readonly left: number
  readonly uploaded: number
  readonly downloaded: number
  readonly generation: number | undefined
  readonly isStraggler: boolean
  /** Names of the hosts that it takes each stripe from; undefined is the web seed. */
  readonly predecessors: readonly (string | undefined)[]
  readonly route: Route | undefined
  readonly joinedMs: number
  readonly heardMs: number
}

export type SwarmView = {
  readonly infoHash: string
  readonly pieces: number
  readonly counts: ScrapeCounts
  readonly agents: number
  readonly strangers: number
  /** In the order of the plan: by generation and the moment of joining; strangers last. */
  readonly members: readonly MemberView[]
}

export class Tracker {
  readonly #options: TrackerOptions
  readonly #limits: TrackerLimits
  readonly #swarms = new Map<string, { readonly swarm: TrackedSwarm; usedMs: number }>()
  #sweptMs: number | undefined

  constructor(options: TrackerOptions) {
    this.#options = options
    this.#limits = { ...trackerLimits, ...options.limits }
  }

  /** Takes an announce for a torrent of `pieces` pieces from someone who was admitted, and answers it. */
  announce(announce: Announce, who: Announcer & { readonly pieces: number }, nowMs: number): AnnounceAnswer | Refusal {
    this.sweep(nowMs)
    const swarm = this.#swarmOf(announce.infoHash, who.pieces, nowMs)
    const isAgent = who.kind === 'agent' && announce.agent !== undefined
    // Without our parameters it is a stock client, whatever its token says.
    const announcer: Announcer = isAgent ? who : { ...who, kind: 'stranger' }
    const known = swarm.members.get(announce.peerId)
    const reason = this.#refusal(swarm, known, announce, announcer)
    if (reason !== undefined) return { reason }
    const intervalMs = isAgent ? this.#agentIntervalMs(swarm) : strangerInterval.seconds * 1000
    if (announce.event === 'stopped') {
      if (known !== undefined) swarm.remove(known)
      return this.#answer(swarm, intervalMs, [])
    }
    const misses = isAgent ? agentMisses : strangerMisses
    const member = swarm.hear(announce, announcer, { nowMs, expiresMs: nowMs + (misses + 0.5) * intervalMs })
    swarm.plan(nowMs)
    const peers = this.#peersFor(swarm, member)
    if (!isAgent) return this.#answer(swarm, intervalMs, peers)
    const { route } = member
    // Who has no route yet comes back when the next plan is made; and soon while hosts still come in, each of which changes it.
    const soonMs =
      route === undefined ? Math.ceil(swarm.planInMs(nowMs)) + planSlackMs : this.#earlyMs(swarm, swarm.ageMs(nowMs))
    const nextMs = Math.min(intervalMs, soonMs)
    const isNew = route !== undefined && route.version !== announce.agent?.route
    return { ...this.#answer(swarm, intervalMs, peers), agent: { nextMs, route: isNew ? route : undefined } }
  }

  #refusal(
    swarm: TrackedSwarm,
    known: TrackedMember | undefined,
    announce: Announce,
    who: Announcer,
  ): string | undefined {
    if (known !== undefined && !isSame(known, announce, who)) {
      return `another client of this swarm, at ${known.who.address}, has the peer id ${announce.peerId}`
    }
    if (who.kind === 'agent' && (announce.agent?.have ?? 0) > swarm.pieces) {
      return `\`have\` is ${announce.agent?.have}, and the torrent has ${swarm.pieces} pieces`
    }
    if (known !== undefined || announce.event === 'stopped') return undefined
    const { agentsMax, strangersMax } = this.#limits
    if (who.kind === 'stranger' && swarm.strangers >= strangersMax) {
      return `the swarm is full: ${strangersMax} clients are in it beside the agents`
    }
    if (who.kind === 'agent' && swarm.agents >= agentsMax && swarm.agentOf(who.host ?? '') === undefined) {
      return `the swarm is full: ${agentsMax} agents are in it`
    }
    return undefined
  }

  #swarmOf(infoHash: string, pieces: number, nowMs: number): TrackedSwarm {
    const found = this.#swarms.get(infoHash)
    if (found !== undefined) {
      found.usedMs = nowMs
      return found.swarm
    }
    const swarm = new TrackedSwarm({ pieces, firstVersion: this.#options.firstVersion })
    this.#swarms.set(infoHash, { swarm, usedMs: nowMs })
    return swarm
  }

  #agentIntervalMs({ agents }: TrackedSwarm): number {
    return Math.round(this.#limits.agentIntervalMs * Math.min(intervalTimesMax, Math.max(1, agents / agentsAtShortest)))
  }

  /** When agents of a young swarm announce again: after as long as it exists, but no more of them than can be heard. */
  #earlyMs({ agents }: TrackedSwarm, ageMs: number): number {
    return Math.round(Math.max(ageMs, earlyMsMin, (agents * 1000) / announcesPerSecondMax))
  }

  #answer(swarm: TrackedSwarm, intervalMs: number, peers: readonly ListedPeer[]): AnnounceAnswer {
    const intervalSeconds = Math.max(1, Math.round(intervalMs / 1000))
    const { complete, incomplete } = swarm.counts
    const minIntervalSeconds = Math.min(intervalSeconds, strangerInterval.minSeconds)
    return { intervalSeconds, minIntervalSeconds, complete, incomplete, peers }
  }

  #peersFor(swarm: TrackedSwarm, member: TrackedMember): ListedPeer[] {
    const { numwant, infoHash, left } = member.announce
    // Agents have their route; they are told of others only when they ask.
    const count = Math.min(numwant ?? (member.who.kind === 'agent' ? 0 : this.#limits.peersMax), this.#limits.peersMax)
    if (count === 0) return []
    const origin = left === 0 ? undefined : this.#options.originOf?.(infoHash)
    const others = swarm.peersFor(member, origin === undefined ? count : count - 1)
    return [...(origin === undefined ? [] : [origin]), ...others.flatMap((other) => endpointsOf(other))].slice(0, count)
  }

  /** How many there are of each of these torrents; those without a swarm count nobody. */
  scrape(infoHashes: readonly string[], nowMs: number): Map<string, ScrapeCounts> {
    this.sweep(nowMs)
    const none = { complete: 0, downloaded: 0, incomplete: 0 }
    return new Map(infoHashes.map((infoHash) => [infoHash, this.#swarms.get(infoHash)?.swarm.counts ?? none]))
  }

  /**
   * Forgets who has fallen silent, judges who is slow, plans what is owed. Call it four times a second; it looks at the
   * clock itself and costs nothing when called more often.
   */
  sweep(nowMs: number): void {
    const sinceMs = nowMs - (this.#sweptMs ?? nowMs - sweepEveryMs)
    if (sinceMs < sweepEveryMs) return
    this.#sweptMs = nowMs
    for (const [infoHash, entry] of this.#swarms) {
      entry.swarm.sweep(nowMs, sinceMs >= deafMs ? sinceMs : 0)
      if (entry.swarm.members.size > 0) entry.usedMs = nowMs
      else if (entry.usedMs < nowMs - emptyMs) this.#swarms.delete(infoHash)
    }
  }

  get infoHashes(): readonly string[] {
    return [...this.#swarms.keys()]
  }

  /** What there is to see of a swarm; undefined when nobody is or was in it lately. */
  snapshot(infoHash: string, nowMs: number): SwarmView | undefined {
    this.sweep(nowMs)
    const swarm = this.#swarms.get(infoHash)?.swarm
    if (swarm === undefined) return undefined
    const last = Number.POSITIVE_INFINITY
    const members = [...swarm.members.values()]
      .toSorted((a, b) => (a.order ?? 0) - (b.order ?? 0))
      .map((member) => viewOf(swarm, member))
      .sort((a, b) => (a.generation ?? last) - (b.generation ?? last))
    const { pieces, counts, agents, strangers } = swarm
    return { infoHash, pieces, counts, agents, strangers, members }
  }
}

function isSame(known: TrackedMember, announce: Announce, who: Announcer): boolean {
  if (known.who.kind !== who.kind) return false
  if (who.kind === 'agent') return known.who.host === who.host
  const { key } = announce
  return known.who.address === who.address || (key !== undefined && key === known.announce.key)
}

function endpointsOf({ id, who, announce }: TrackedMember): ListedPeer[] {
  const first = { ip: who.address, port: announce.port, peerId: id }
  // Anyone can claim an address; only an agent is believed.
  const second = who.kind === 'agent' && announce.ipv6 ? [{ ...announce.ipv6, peerId: id }] : []
  return [first, ...second]
}

function viewOf(swarm: TrackedSwarm, member: TrackedMember): MemberView {
  const { id, who, announce, standing, route, joinedMs, heardMs } = member
  const { agent, port, left, uploaded, downloaded } = announce
  return {
    id,
    kind: who.kind,
    host: who.host,
    site: who.site,
    rack: who.rack,
    address: who.address,
    port,
    state: agent?.isLeaving ? 'leaving' : left === 0 ? 'seeding' : 'fetching',
    have: agent?.have,
    rate: agent?.rate,
    lagMs: agent?.lagMs,
    left,
    uploaded,
    downloaded,
    generation: swarm.generationOf(member),
    isStraggler: standing.isStraggler,
    predecessors: member.predecessors.map((one) => one && (swarm.members.get(one)?.who.host ?? one)),
    route,
    joinedMs,
    heardMs,
  }
}
