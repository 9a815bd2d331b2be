// The policy of a rollout: who goes first, how many at a time, how many failures are too many, how many hosts are enough.
// What an order says in shares becomes numbers of hosts here, once, when the rollout begins; conduct.ts acts by them.

/** Some of a rollout's hosts: a number of them, or a part of all in percent. */
export const hostSharePattern = '^([1-9][0-9]{0,5}|([1-9][0-9]?|100)%)$'

/** What too many failures do to those that have not begun: `stop` cancels them, `pause` lets them wait for somebody. */
export const failureCourses = ['stop', 'pause'] as const
export type FailureCourse = (typeof failureCourses)[number]

/** Hosts beyond the quorum: `hold` keeps them for those that fail, `begin` begins them with the others. */
export const spareUses = ['hold', 'begin'] as const
export type SpareUse = (typeof spareUses)[number]

/** `given` is the order of the nodeset; `spread` takes hosts of different sites and racks in turn. */
export const hostOrders = ['given', 'spread'] as const
export type HostOrder = (typeof hostOrders)[number]

/** What becomes of hosts that are in another rollout. */
export const busyCourses = ['refuse', 'queue', 'exclude'] as const
export type BusyCourse = (typeof busyCourses)[number]

/** A policy as it is ordered: shares as text, a time as text. */
export type PolicyOrder = {
  readonly canary?: string | undefined
  readonly wave?: string | undefined
  readonly concurrency?: string | undefined
  readonly stopAtFailed?: string | undefined
  readonly atFailures?: FailureCourse | undefined
  readonly quorum?: string | undefined
  readonly spares?: SpareUse | undefined
  readonly startAt?: string | undefined
  readonly order?: HostOrder | undefined
}

/** A policy as a rollout keeps it: numbers of hosts, milliseconds since 1970. What is undefined does not bind. */
export type Policy = {
  /** Hosts that must be done before any other begins. */
  readonly canary?: number | undefined
  /** Hosts of a wave: the next begins when this one has ended. */
  readonly wave?: number | undefined
  /** Hosts under way at a time. */
  readonly concurrency?: number | undefined
  /** So many failed hosts are too many. */
  readonly stopAtFailed?: number | undefined
  readonly atFailures: FailureCourse
  /** So many hosts done are enough. */
  readonly quorum?: number | undefined
  readonly spares: SpareUse
  /** Hosts were done again though enough were done: the quorum judges the end, and keeps nobody from beginning. */
  readonly goesOn?: boolean | undefined
  readonly startAt?: number | undefined
  readonly order: HostOrder
}

export const defaultPolicy: Policy = { atFailures: 'stop', spares: 'hold', order: 'given' }

/** How many of `total` hosts a share is: at least one, rounded up, and not more than there are. */
export function hostsOfShare(share: string, total: number): number {
  const hosts = share.endsWith('%') ? Math.ceil((Number(share.slice(0, -1)) * total) / 100) : Number(share)
  return Math.min(Math.max(1, hosts), total)
}

/** A fault of an ordered policy: the field, and what is wrong with it in words. */
export type PolicyFault = { readonly field: keyof PolicyOrder; readonly sentence: string }

/** What of an ordered policy makes no sense for `total` hosts; undefined when all does. */
export function faultOf(ordered: PolicyOrder, total: number): PolicyFault | undefined {
  const { quorum, stopAtFailed, atFailures, spares, startAt } = ordered
  if (quorum !== undefined && !quorum.endsWith('%') && Number(quorum) > total) {
    return { field: 'quorum', sentence: `${quorum} hosts are to be done, and the rollout has ${total}` }
  }
  if (spares !== undefined && quorum === undefined) {
    return { field: 'spares', sentence: 'there are spares only where a quorum says how many hosts are enough' }
  }
  if (atFailures !== undefined && stopAtFailed === undefined && ordered.canary === undefined) {
    return { field: 'atFailures', sentence: 'say with stopAtFailed how many failures are too many, or name a canary' }
  }
  if (startAt !== undefined && Number.isNaN(Date.parse(startAt))) {
    return { field: 'startAt', sentence: `${startAt} is no time` }
  }
  return undefined
}

/** The policy that an order means for `total` hosts; check it with `faultOf` first. */
export function policyFor(ordered: PolicyOrder, total: number): Policy {
  const share = (text: string | undefined) => (text === undefined ? undefined : hostsOfShare(text, total))
  return {
    canary: share(ordered.canary),
    wave: share(ordered.wave),
    concurrency: share(ordered.concurrency),
    stopAtFailed: share(ordered.stopAtFailed),
    atFailures: ordered.atFailures ?? defaultPolicy.atFailures,
    quorum: share(ordered.quorum),
    spares: ordered.spares ?? defaultPolicy.spares,
    startAt: ordered.startAt === undefined ? undefined : Date.parse(ordered.startAt),
    order: ordered.order ?? defaultPolicy.order,
  }
}

/** Whether a policy lets every host begin when the rollout does. */
export function beginsAtOnce({ canary, wave, concurrency, quorum, spares, startAt }: Policy): boolean {
  const holds = quorum !== undefined && spares === 'hold'
  return !holds && [canary, wave, concurrency, startAt].every((bound) => bound === undefined)
}

/** The wave of the host at `position` (from 0) of the order: 0 is the canary, the others count from 1. */
export function waveAt(position: number, { canary = 0, wave }: Pick<Policy, 'canary' | 'wave'>): number {
  if (position < canary) return 0
  return wave === undefined ? 1 : 1 + Math.floor((position - canary) / wave)
}

/** Hosts in the order in which they begin. */
export function inOrder<T extends { readonly site: string | null; readonly rack: string | null }>(
  hosts: readonly T[],
  order: HostOrder,
): T[] {
  if (order === 'given') return [...hosts]
  const sites = [...Map.groupBy(hosts, ({ site }) => site).values()]
  return inTurn(sites.map((ofSite) => inTurn([...Map.groupBy(ofSite, ({ rack }) => rack).values()])))
}

/** One of each list, then the second of each, until all are taken. */
function inTurn<T>(lists: readonly (readonly T[])[]): T[] {
  const longest = Math.max(0, ...lists.map((list) => list.length))
  return Array.from({ length: longest }, (_, i) => lists.flatMap((list) => list.slice(i, i + 1))).flat()
}
