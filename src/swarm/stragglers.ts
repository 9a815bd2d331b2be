// Which members of a swarm are too slow to feed others, told from their progress and from what their successors say of
// them. Pure. A member that is slow because whom it takes from is slow is none; neither is anyone when all are equally slow.

/** How many pieces were verified at a time. */
export type Sample = { readonly atMs: number; readonly have: number }

export type Progress = {
  readonly id: string
  /** Whom it takes each stripe from; undefined is the web seed. */
  readonly predecessors: readonly (string | undefined)[]
  /** Since when it has these predecessors: what was before says nothing of them. */
  readonly routedMs: number
  readonly successors: number
  /** The newest last. */
  readonly samples: readonly Sample[]
  readonly isComplete: boolean
  readonly standing: Standing
}

export type Standing = {
  readonly isStraggler: boolean
  /** When it last became one. */
  readonly sinceMs: number
  /** How often it has become one. */
  readonly times: number
}

/** `from` takes from `about`, or did until the last plan, and is starved by it. */
export type Complaint = {
  readonly from: string
  readonly about: string
  readonly firstMs: number
  readonly lastMs: number
}

export type Verdict = {
  /** Who becomes a straggler. */
  readonly demoted: readonly string[]
  /** Who is none any more. */
  readonly readmitted: readonly string[]
  /** Pieces a second that an ordinary member makes; hand it to the next call. */
  readonly usualRate: number
}

/** Nobody is judged by less: a host whose processor is busy stands still for two or three seconds and is well again. */
const evidenceMs = 4000
/** How long samples are worth keeping, and how far apart they are: a few pieces of 4 MiB take their time. */
export const samplesMs = 20_000
export const sampleEveryMs = 400
/** Complaints belong together, and rates are of now, within so long. */
export const memoryMs = 10_000
/** A rate made of fewer pieces is chance. */
const evidencePieces = 8
/** Below this part of what is usual a member is slow; from this part on it is well again: between them it stays what it is. */
const slowPart = 0.5
const wellPart = 0.7
/** A straggler that is well for so long may return; for each further time it became one, twice as long. */
const wellMs = 5000
const wellMsMax = 80_000
/** So much more than the member must its predecessor have held all the time: else it had nothing to give. */
const leadPieces = 4
const leadSeconds = 0.5
/** The only successor of a member is believed when it has complained for so long. */
const aloneMs = 4000
/** Several are believed when one of them has complained again: each may have stood still once while its route changed. */
const againMs = 1000
/** At most this part of the members are stragglers: if more are slow, slow is what is usual. */
const stragglersPart = 1 / 3

/** Judges the agents of one swarm. `usualRate` is the one of the last verdict, 0 before the first. */
export function findStragglers(
  members: readonly Progress[],
  complaints: readonly Complaint[],
  { usualRate, nowMs }: { readonly usualRate: number; readonly nowMs: number },
): Verdict {
  const byId = new Map(members.map((member) => [member.id, member]))
  const usual = usualRateOf(members, usualRate, nowMs)
  const readmitted = members
    .filter((member) => isWell(member, usual * shareOf(member, byId), nowMs))
    .map(({ id }) => id)
  const held = members.filter(({ standing }) => standing.isStraggler).length - readmitted.length
  const room = Math.floor(members.length * stragglersPart) - held
  const suspects = new Map<string, number>()
  for (const member of members) {
    const part = slowness(member, byId, usual)
    if (part < slowPart) suspects.set(member.id, part)
  }
  for (const id of accused(complaints, byId, suspects, nowMs)) {
    if (!suspects.has(id)) suspects.set(id, slowPart)
  }
  const demoted = [...suspects].toSorted(([, a], [, b]) => a - b).slice(0, Math.max(0, room))
  return { demoted: demoted.map(([id]) => id), readmitted, usualRate: usual }
}

/** The median. When most have ended, those who are left say nothing of what is usual, and the last value holds. */
function usualRateOf(members: readonly Progress[], last: number, nowMs: number): number {
  const rates: number[] = []
  for (const { isComplete, standing, samples } of members) {
    const newest = samples.at(-1)
    if (isComplete || standing.isStraggler || newest === undefined || newest.atMs < nowMs - memoryMs) continue
    const rate = rateOver(samples, evidenceMs)
    if (rate !== undefined) rates.push(rate.perSecond)
  }
  if (rates.length < members.length / 2 || rates.length === 0) return last
  return rates.toSorted((a, b) => a - b)[Math.floor(rates.length / 2)] ?? last
}

/** What the newest samples make over at least `spanMs`; undefined when they do not reach so far back. */
function rateOver(
  samples: readonly Sample[],
  spanMs: number,
  notBeforeMs = 0,
): { readonly perSecond: number; readonly from: Sample; readonly to: Sample } | undefined {
  const to = samples.at(-1)
  const from = to && samples.findLast(({ atMs }) => atMs <= to.atMs - spanMs)
  if (to === undefined || from === undefined || from.atMs < notBeforeMs) return undefined
  return { perSecond: Math.max(0, ((to.have - from.have) * 1000) / (to.atMs - from.atMs)), from, to }
}

/** Which part of what it could make a member makes; 1 when its slowness, if any, is not its own. */
function slowness(member: Progress, byId: ReadonlyMap<string, Progress>, usual: number): number {
  if (member.isComplete || member.standing.isStraggler) return 1
  const predecessors = member.predecessors.map((id) => (id === undefined ? undefined : byId.get(id)))
  const slowest = Math.min(
    ...predecessors.map((one) => {
      // The web seed and who has everything give what is asked of them.
      if (one === undefined || one.isComplete) return usual
      return rateOver(one.samples, evidenceMs)?.perSecond ?? 0
    }),
  )
  // Whom a slow one holds up is not slow itself, whatever lies ready for it there: what is sent slowly lies ready for long.
  if (slowest < slowPart * usual) return 1
  const expected = Math.max(usual, slowest) * shareOf(member, byId)
  if (expected === 0) return 1
  const spanMs = Math.max(evidenceMs, (evidencePieces * 1000) / expected)
  const rate = rateOver(member.samples, spanMs, member.routedMs)
  if (rate === undefined) return 1
  const lead = Math.max(leadPieces, expected * leadSeconds)
  const couldGive = predecessors.every(
    (one) => one === undefined || one.isComplete || haveAt(one.samples, rate.from.atMs) >= rate.to.have + lead,
  )
  return couldGive ? rate.perSecond / expected : 1
}

/** An up-link that serves more hosts than there are stripes gives each of them less: that is no fault of theirs. */
function shareOf({ predecessors }: Progress, byId: ReadonlyMap<string, Progress>): number {
  const successors = predecessors.map((id) => (id === undefined ? 1 : (byId.get(id)?.successors ?? 1)))
  return Math.min(1, ...successors.map((count) => predecessors.length / Math.max(1, count)))
}

function haveAt(samples: readonly Sample[], atMs: number): number {
  return samples.findLast((sample) => sample.atMs <= atMs)?.have ?? 0
}

/** Whom complaints make a straggler. */
function accused(
  complaints: readonly Complaint[],
  byId: ReadonlyMap<string, Progress>,
  slow: ReadonlyMap<string, number>,
  nowMs: number,
): Set<string> {
  const heard = complaints.filter(
    ({ from, about, lastMs }) =>
      lastMs >= nowMs - memoryMs && isFit(byId.get(from)) && isFit(byId.get(about)) && from !== about,
  )
  const ripe = (list: readonly Complaint[]): boolean => list.some(({ firstMs }) => firstMs <= nowMs - evidenceMs)
  const found = new Set<string>()
  const byFrom = Map.groupBy(heard, ({ from }) => from)
  // Who is starved by everybody is starved by itself.
  for (const [from, list] of byFrom) if (list.length > 1 && ripe(list)) found.add(from)
  const credible = heard.filter(({ from }) => !found.has(from))
  for (const [about, list] of Map.groupBy(credible, ({ about }) => about)) {
    const lastsFor = (ms: number) => list.some((one) => one.lastMs - one.firstMs >= ms)
    const isAlone = byId.get(about)?.successors === 1 && lastsFor(aloneMs)
    const areSeveral = list.length > 1 && lastsFor(againMs)
    // A slow one that is starved by its predecessor: one of the two is at fault, both go, and the other one soon returns.
    const isPair = list.some(({ from }) => slow.has(from))
    if (ripe(list) && (areSeveral || isAlone || isPair)) found.add(about)
  }
  return found
}

function isFit(member: Progress | undefined): boolean {
  return member !== undefined && !member.standing.isStraggler
}

function isWell({ standing, samples, isComplete }: Progress, expected: number, nowMs: number): boolean {
  if (!standing.isStraggler) return false
  if (nowMs - standing.sinceMs < Math.min(wellMsMax, wellMs * 2 ** (standing.times - 1))) return false
  if (isComplete) return true
  const rate = rateOver(samples, wellMs, standing.sinceMs)
  return rate !== undefined && rate.perSecond >= wellPart * expected
}
