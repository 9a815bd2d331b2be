// One swarm as the tracker sees it: who is in it, how far each is, who comes before whom, and the routes that follow. The
// clock is an argument and never runs backwards; nothing here is stored, all of it comes back with the next announces.
import type { Route } from '../model/swarm.ts'
import type { ScrapeCounts } from '../protocol/tracker-answer.ts'
import type { Announce } from '../protocol/tracker-wire.ts'
import { type Located, PeerGroups } from './peer-list.ts'
import {
  type Complaint,
  findStragglers,
  memoryMs,
  type Sample,
  type Standing,
  sampleEveryMs,
  samplesMs,
} from './stragglers.ts'
import { planRoutes, type Seat } from './topology.ts'

/** Who announces, as admission knows it. */
export type Announcer = Located & {
  readonly kind: 'agent' | 'stranger'
  /** Always there for an agent; for a stock client when it runs on a host of ours. */
  readonly host: string | undefined
  /** Where the announce came from. */
  readonly address: string
}

export type TrackedMember = {
  readonly id: string
  who: Announcer
  /** The last one. */
  announce: Announce
  readonly joinedMs: number
  heardMs: number
  /** Forgotten then, unless it is heard of. */
  expiresMs: number
  /** Its time was stretched because the tracker itself was deaf; once between two announces. */
  isStretched: boolean
  hasCompleted: boolean
  /** Undefined for strangers, and for agents that no plan has yet. */
  generation: Generation | undefined
  /** Its number among all that were given a place, see `Member.order`; undefined as long as it has none. */
  order: number | undefined
  route: Route | undefined
  seat: Seat | undefined
  /** Since when the predecessors are these. */
  routedMs: number
  predecessors: readonly (string | undefined)[]
  formerPredecessors: readonly (string | undefined)[]
  samples: Sample[]
  standing: Standing
}

/** Members that can feed each other: who joins when these are far ahead comes behind them. */
type Generation = { members: number; mostHave: number }

/** A member ahead by more than this part of the pieces cannot be fed by who joins now. */
const generationPart = 0.02
/** How often routes are planned: a plan for 10,000 agents takes 40 to 80 ms. */
const planEveryMsMin = 200
const planMsPerAgent = 0.05
const judgeEveryMsMin = 500
const judgeMsPerAgent = 0.1
/** After a restart of the tracker agents come back in any order: so long they are waited for before the first plan. */
const settleMs = 1500
/** Hosts that are started together announce within moments: a plan without half of them would be made anew at once. */
const gatherMs = 150

const wellStanding: Standing = { isStraggler: false, sinceMs: 0, times: 0 }

export class TrackedSwarm {
  readonly pieces: number
  readonly members = new Map<string, TrackedMember>()
  readonly #byHost = new Map<string, TrackedMember>()
  /** Who may be named to strangers, by place. */
  readonly #listed = new PeerGroups<Located & { readonly member: TrackedMember }>()
  readonly #entries = new Map<TrackedMember, Located & { readonly member: TrackedMember }>()
  readonly #complaints = new Map<string, Complaint>()
  #generations: Generation[] = []
  #joined = 0
  #complete = 0
  #completions = 0
  #isDirty = false
  #version: number
  #stripes: number | undefined
  #plannedMs = Number.NEGATIVE_INFINITY
  #judgedMs = Number.NEGATIVE_INFINITY
  #settledMs: number | undefined
  /** When the first of the agents came that are here now. */
  #begunMs = 0
  #usualRate = 0

  constructor(options: { readonly pieces: number; readonly firstVersion: number }) {
    this.pieces = options.pieces
    this.#version = options.firstVersion
  }

  get agents(): number {
    return this.#byHost.size
  }

  /** How long there have been agents. */
  ageMs(nowMs: number): number {
    return nowMs - this.#begunMs
  }

  get strangers(): number {
    return this.members.size - this.agents
  }

  get counts(): ScrapeCounts {
    return { complete: this.#complete, downloaded: this.#completions, incomplete: this.members.size - this.#complete }
  }

  /** The agent of a host, whatever peer id it has taken. */
  agentOf(host: string): TrackedMember | undefined {
    return this.#byHost.get(host)
  }

  /** Takes an announce in, of a member or a new one; another agent of the same host is replaced. */
  hear(announce: Announce, who: Announcer, at: { readonly nowMs: number; readonly expiresMs: number }): TrackedMember {
    const former = who.kind === 'agent' && who.host !== undefined ? this.#byHost.get(who.host) : undefined
    if (former !== undefined && former.id !== announce.peerId) this.remove(former)
    const member = this.members.get(announce.peerId) ?? this.#add(announce, who, at.nowMs)
    const last = member.announce
    this.#complete += Number(announce.left === 0) - Number(last.left === 0)
    if (announce.event === 'completed' && !member.hasCompleted) {
      member.hasCompleted = true
      this.#completions += 1
    }
    const hasMoved = !isSamePlace(member.who, who) || last.port !== announce.port
    if (hasMoved || last.agent?.isLeaving !== announce.agent?.isLeaving) this.#isDirty = true
    Object.assign(member, { who, announce, heardMs: at.nowMs, expiresMs: at.expiresMs, isStretched: false })
    this.#list(member, hasMoved)
    if (announce.agent !== undefined && who.kind === 'agent') this.#noteProgress(member, at.nowMs)
    return member
  }

  #add(announce: Announce, who: Announcer, nowMs: number): TrackedMember {
    const member: TrackedMember = {
      id: announce.peerId,
      who,
      announce,
      joinedMs: nowMs,
      heardMs: nowMs,
      expiresMs: nowMs,
      isStretched: false,
      hasCompleted: false,
      generation: undefined,
      order: undefined,
      route: undefined,
      seat: undefined,
      routedMs: nowMs,
      predecessors: [],
      formerPredecessors: [],
      samples: [],
      standing: wellStanding,
    }
    this.members.set(member.id, member)
    if (announce.left === 0) this.#complete += 1
    if (who.kind === 'agent' && who.host !== undefined) {
      if (this.agents === 0) this.#begunMs = nowMs
      this.#byHost.set(who.host, member)
      this.#isDirty = true
      // An agent that is far in a swarm that nobody is in: it is the tracker that is new.
      const isBack = (announce.agent?.have ?? 0) > generationPart * this.pieces
      this.#settledMs ??= nowMs + (isBack ? settleMs : gatherMs)
    }
    return member
  }

  remove(member: TrackedMember): void {
    if (!this.members.delete(member.id)) return
    if (member.announce.left === 0) this.#complete -= 1
    const entry = this.#entries.get(member)
    if (entry !== undefined) this.#listed.delete(entry)
    this.#entries.delete(member)
    if (member.who.host === undefined || this.#byHost.get(member.who.host) !== member) return
    this.#byHost.delete(member.who.host)
    this.#leaveGeneration(member)
    this.#isDirty = true
  }

  #list(member: TrackedMember, hasMoved: boolean): void {
    const entry = this.#entries.get(member)
    const isListed = member.announce.agent?.isLeaving !== true
    if (entry !== undefined && (hasMoved || !isListed)) {
      this.#listed.delete(entry)
      this.#entries.delete(member)
    }
    if (!isListed || this.#entries.has(member)) return
    const { site, rack } = member.who
    const added = { site, rack, member }
    this.#entries.set(member, added)
    this.#listed.add(added)
  }

  #noteProgress(member: TrackedMember, nowMs: number): void {
    const { have, slow } = member.announce.agent ?? { have: 0, slow: [] }
    if (member.generation !== undefined) member.generation.mostHave = Math.max(member.generation.mostHave, have)
    const { samples } = member
    const newest = samples.at(-1)
    if (newest === undefined || nowMs - newest.atMs >= sampleEveryMs) samples.push({ atMs: nowMs, have })
    while (samples[0] !== undefined && samples[0].atMs < nowMs - samplesMs) samples.shift()
    for (const about of slow) {
      const isFormer = nowMs - member.routedMs < memoryMs && member.formerPredecessors.includes(about)
      if (!isFormer && !member.predecessors.includes(about)) continue
      const key = `${member.id} ${about}`
      const known = this.#complaints.get(key)
      const firstMs = known !== undefined && known.lastMs >= nowMs - memoryMs ? known.firstMs : nowMs
      this.#complaints.set(key, { from: member.id, about, firstMs, lastMs: nowMs })
    }
  }

  /** Forgets who was not heard of, judges who is slow, and plans when that is due. */
  sweep(nowMs: number, wasDeafMs: number): void {
    for (const member of this.members.values()) {
      if (member.expiresMs > nowMs) continue
      // Who could not be heard is not gone: it is given the time that we were deaf for.
      if (wasDeafMs > 0 && !member.isStretched) {
        member.isStretched = true
        member.expiresMs = nowMs + Math.min(wasDeafMs, member.expiresMs - member.heardMs)
      } else this.remove(member)
    }
    this.#judge(nowMs)
    this.plan(nowMs)
  }

  #judge(nowMs: number): void {
    if (nowMs - this.#judgedMs < Math.max(judgeEveryMsMin, this.agents * judgeMsPerAgent)) return
    this.#judgedMs = nowMs
    for (const [key, { lastMs, about }] of this.#complaints) {
      if (lastMs < nowMs - memoryMs || !this.members.has(about)) this.#complaints.delete(key)
    }
    const progress = [...this.#byHost.values()]
      .filter(({ route, announce: { agent } }) => route !== undefined && !agent?.isLeaving && !agent?.isPartial)
      .map((member) => ({
        ...member,
        successors: member.route?.successors.length ?? 0,
        isComplete: member.announce.left === 0,
      }))
    const verdict = findStragglers(progress, [...this.#complaints.values()], { usualRate: this.#usualRate, nowMs })
    this.#usualRate = verdict.usualRate
    for (const member of this.#named(verdict.demoted)) {
      member.standing = { isStraggler: true, sinceMs: nowMs, times: member.standing.times + 1 }
      this.#isDirty = true
    }
    if (verdict.readmitted.length === 0) return
    // It returns where its progress belongs: before those that it can feed, behind those that can feed it.
    for (const member of this.#named(verdict.readmitted)) {
      member.standing = { ...member.standing, isStraggler: false }
      this.#leaveGeneration(member)
      member.generation = undefined
    }
    this.#isDirty = true
  }

  #named(ids: readonly string[]): TrackedMember[] {
    return ids.map((id) => this.members.get(id)).filter((member) => member !== undefined)
  }

  /** How long until the next plan; 0 when none is owed or one can be made now. */
  planInMs(nowMs: number): number {
    if (!this.#isDirty) return 0
    const everyMs = Math.max(planEveryMsMin, this.agents * planMsPerAgent)
    return Math.max(0, this.#plannedMs + everyMs - nowMs, (this.#settledMs ?? 0) - nowMs)
  }

  /** Makes new routes, if anything has changed that they depend on and the last ones are old enough. */
  plan(nowMs: number): void {
    if (!this.#isDirty || this.planInMs(nowMs) > 0) return
    this.#isDirty = false
    this.#plannedMs = nowMs
    this.#version += 1
    const agents = [...this.#byHost.values()]
    const unplaced = agents.filter(({ generation }) => generation === undefined)
    for (const member of unplaced.toSorted(inPlacingOrder)) {
      // Who was slow for a while returns to where it stood.
      member.order ??= ++this.#joined
      this.#place(member)
    }
    const numbers = new Map(this.#generations.map((generation, number) => [generation, number]))
    // Who has everything and leaves takes nothing and feeds nobody: at the end of a rollout those are nearly all.
    const [gone, planned] = [agents.filter(isGoing), agents.filter((member) => !isGoing(member))]
    const plan = planRoutes(
      planned.map((member) => ({
        id: member.id,
        peer: { peerId: member.id, ip: member.who.address, port: member.announce.port },
        site: member.who.site,
        rack: member.who.rack,
        order: member.order ?? 0,
        generation: (member.generation && numbers.get(member.generation)) ?? 0,
        isStraggler: member.standing.isStraggler,
        isLeaving: member.announce.agent?.isLeaving ?? false,
        isPartial: member.announce.agent?.isPartial ?? false,
        seat: member.seat,
      })),
      { pieces: this.pieces, stripesBefore: this.#stripes },
    )
    const version = this.#version
    for (const member of planned) {
      const given = plan.get(member.id)
      if (given === undefined) continue
      this.#stripes = given.route.stripes
      member.seat = given.seat
      setRoute(member, { ...given.route, version }, nowMs)
    }
    for (const member of gone) setRoute(member, { ...emptyRoute, version }, nowMs)
  }

  /** Puts an agent into the first generation that it can feed and be fed by, or a new one before all that are behind it. */
  #place(member: TrackedMember): void {
    const have = haveOf(member)
    const near = generationPart * this.pieces
    const at = this.#generations.findIndex(({ mostHave }) => mostHave - have <= near)
    const found = this.#generations[at]
    if (found !== undefined && have - found.mostHave <= near) {
      this.#enterGeneration(member, found)
      return
    }
    const opened: Generation = { members: 0, mostHave: 0 }
    this.#generations.splice(at < 0 ? this.#generations.length : at, 0, opened)
    this.#enterGeneration(member, opened)
  }

  #enterGeneration(member: TrackedMember, generation: Generation): void {
    member.generation = generation
    generation.members += 1
    generation.mostHave = Math.max(generation.mostHave, haveOf(member))
  }

  #leaveGeneration({ generation }: TrackedMember): void {
    if (generation === undefined) return
    generation.members -= 1
    if (generation.members === 0) this.#generations = this.#generations.filter((one) => one !== generation)
  }

  /** The place of a member's generation in the order. */
  generationOf(member: TrackedMember): number | undefined {
    const at = member.generation === undefined ? -1 : this.#generations.indexOf(member.generation)
    return at < 0 ? undefined : at
  }

  /** At most `count` others for a client, those near it first. The finished are no use to the finished. */
  peersFor(member: TrackedMember, count: number): TrackedMember[] {
    const isComplete = member.announce.left === 0
    return this.#listed
      .choose(member.who, count, ({ member: other }) => {
        return other !== member && !(isComplete && other.announce.left === 0)
      })
      .map(({ member: other }) => other)
  }
}

const emptyRoute = { stripes: 1, stripePieces: 1, sources: [[]], depth: [0], successors: [], far: [] }

function isGoing({ announce }: TrackedMember): boolean {
  return announce.left === 0 && announce.agent?.isLeaving === true
}

const { compare } = new Intl.Collator('en', { numeric: true })

/**
 * Who is further comes first: after a restart the order follows progress, whoever came back first. Those that start together
 * stand in the order of their places and names.
 */
function inPlacingOrder(a: TrackedMember, b: TrackedMember): number {
  return (
    haveOf(b) - haveOf(a) ||
    compare(a.who.site ?? '', b.who.site ?? '') ||
    compare(a.who.rack ?? '', b.who.rack ?? '') ||
    compare(a.who.host ?? a.id, b.who.host ?? b.id)
  )
}

function haveOf(member: TrackedMember): number {
  return member.announce.agent?.have ?? 0
}

function isSamePlace(a: Announcer, b: Announcer): boolean {
  return a.address === b.address && a.site === b.site && a.rack === b.rack
}

function setRoute(member: TrackedMember, route: Route, nowMs: number): void {
  const predecessors = route.sources.map(([first]) => first?.peerId)
  const isSame = predecessors.length === member.predecessors.length
  if (!isSame || predecessors.some((id, stripe) => id !== member.predecessors[stripe])) {
    member.formerPredecessors = member.predecessors
    member.predecessors = predecessors
    member.routedMs = nowMs
  }
  member.route = route
}
