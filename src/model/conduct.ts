// How a rollout goes on, decided from its row and those of its deployments: pure, so that every history is a test. Which
// of those that wait begin, whether it stops, whether it has ended. deploy/conductor.ts performs what is decided.
import { type DeploymentState, isActive } from './deployment.ts'
import type { Policy } from './rollout-policy.ts'

/**
 * `running` and `paused` are still conducted. Of the others nothing begins any more; what is under way then ends as it
 * would. `succeeded`: all hosts, or as many as the quorum asks for, are done.
 */
export const rolloutStates = [
  'running',
  'paused',
  'stopped',
  'succeeded',
  'partly-failed',
  'failed',
  'cancelled',
] as const
export type RolloutState = (typeof rolloutStates)[number]

export const conductedStates = ['running', 'paused'] as const

export function isConducted(state: RolloutState): boolean {
  return (conductedStates as readonly RolloutState[]).includes(state)
}

/** Which operation is allowed in which state of a rollout; asking for what is so already is no failure. */
export const rolloutAllowedIn = {
  pause: ['running', 'paused'],
  resume: ['running', 'paused'],
  retry: rolloutStates,
} satisfies Record<string, readonly RolloutState[]>

/**
 * What a deployment counts for. `accepted`: somebody has seen how it ended and let the rollout go on. `taken-out`:
 * somebody cancelled this host alone, the rollout is now one of fewer hosts. `retried`: a newer deployment stands for it.
 */
export const memberStandings = ['accepted', 'taken-out', 'retried'] as const
export type MemberStanding = (typeof memberStandings)[number]

/** One host of a rollout, by its newest deployment there. */
export type Member = {
  readonly id: number
  readonly host: string
  readonly state: DeploymentState
  /** 0: a canary. */
  readonly wave: number
  readonly standing: MemberStanding | null
  /** The rollout that has its host before this one may. */
  readonly behind?: number | undefined
}

export type RolloutFacts = {
  readonly state: RolloutState
  readonly policy: Policy
  /** In the order in which they begin. */
  readonly members: readonly Member[]
}

export type Conduct =
  | { readonly kind: 'begin'; readonly ids: readonly number[] }
  /** Nothing begins any more: those that wait are cancelled, or wait for somebody. */
  | { readonly kind: 'halt'; readonly to: 'stopped' | 'paused'; readonly why: string }
  /** Enough are done: those that wait are not needed. */
  | { readonly kind: 'enough'; readonly why: string }
  | { readonly kind: 'end'; readonly to: RolloutState; readonly why: string }
  /** `why` in words that follow `waits for`; undefined when it is over or everything has begun. */
  | { readonly kind: 'wait'; readonly why?: string | undefined }

export type Tally = {
  readonly total: number
  readonly waiting: number
  readonly underWay: number
  readonly done: number
  readonly failed: number
  readonly cancelled: number
}

/** How many hosts stand where; those that were taken out are in no number but `cancelled`. */
export function tallyOf(members: readonly Pick<Member, 'state' | 'standing'>[]): Tally {
  const tally = { total: 0, waiting: 0, underWay: 0, done: 0, failed: 0, cancelled: 0 }
  for (const { state, standing } of members) {
    if (standing !== 'taken-out') tally.total += 1
    if (state === 'waiting' || state === 'done' || state === 'failed' || state === 'cancelled') tally[state] += 1
    else tally.underWay += 1
  }
  return tally
}

/** What is due in a rollout now. */
export function conduct({ state, policy, members }: RolloutFacts, now: number): Conduct {
  if (!isConducted(state)) return { kind: 'wait' }
  const tally = tallyOf(members)
  const { quorum, goesOn } = policy
  if (tally.waiting + tally.underWay === 0) return endOf(tally, quorum)
  if (quorum !== undefined && !goesOn && tally.done >= quorum) {
    return { kind: 'enough', why: `of ${tally.total} hosts ${tally.done} are done, and ${quorum} were to be` }
  }
  if (tally.waiting === 0) return { kind: 'wait' }
  if (state === 'paused') return { kind: 'wait', why: 'somebody to resume it' }
  const tooMany = failureSentence(members, policy)
  if (tooMany !== undefined) {
    return { kind: 'halt', to: policy.atFailures === 'pause' ? 'paused' : 'stopped', why: tooMany }
  }
  if (policy.startAt !== undefined && now < policy.startAt) {
    return { kind: 'wait', why: `its time to start, ${new Date(policy.startAt).toISOString()}` }
  }
  return next(members, tally, policy)
}

/** Who of the current wave begins, or what the wave waits for. */
function next(members: readonly Member[], tally: Tally, policy: Policy): Conduct {
  const wave = currentWave(members)
  const ofWave = members.filter((member) => member.wave === wave)
  const waiting = ofWave.filter(({ state }) => state === 'waiting')
  if (waiting.length === 0) {
    const name = wave === 0 ? 'the canary' : `wave ${wave}`
    const underWay = ofWave.filter(({ state }) => isActive(state)).length
    return { kind: 'wait', why: `${name}: ${underWay === 1 ? '1 host is' : `${underWay} hosts are`} under way` }
  }
  const free = (policy.concurrency ?? Number.POSITIVE_INFINITY) - tally.underWay
  if (free <= 0) return { kind: 'wait', why: `a host to end: ${policy.concurrency} at a time are under way` }
  const needed = neededNow(tally, policy)
  if (needed <= 0) return { kind: 'wait', why: 'a host to fail that a spare stands in for' }
  const ready = waiting.filter(({ behind }) => behind === undefined)
  if (ready.length > 0) return { kind: 'begin', ids: ready.slice(0, Math.min(free, needed)).map(({ id }) => id) }
  const [first] = waiting
  return { kind: 'wait', why: `${first?.host} to end in rollout ${first?.behind}` }
}

/** How many more hosts it takes to reach the quorum, if all that are under way succeed. */
function neededNow({ done, underWay }: Tally, { quorum, spares, goesOn }: Policy): number {
  return quorum === undefined || goesOn || spares === 'begin' ? Number.POSITIVE_INFINITY : quorum - done - underWay
}

/** The first wave that has not ended; undefined when all have. */
export function currentWave(members: readonly Pick<Member, 'state' | 'wave'>[]): number | undefined {
  const open = members.filter(({ state }) => state === 'waiting' || isActive(state))
  return open.length === 0
    ? undefined
    : open.reduce((least, { wave }) => Math.min(least, wave), Number.MAX_SAFE_INTEGER)
}

/** Why the rollout must not go on by itself; undefined when it may. */
function failureSentence(members: readonly Member[], { canary, stopAtFailed }: Policy): string | undefined {
  const fresh = members.filter(({ standing }) => standing === null)
  if (canary !== undefined) {
    const canaries = members.filter(({ wave }) => wave === 0)
    const unwell = canaries.find((one) => isEndedUnwell(one) && one.standing === null)
    if (unwell) return `the canary ${unwell.host} is ${unwell.state}`
    if (canaries.every(isEndedUnwell)) return 'no canary is done'
  }
  const failed = fresh.filter(({ state }) => state === 'failed').length
  if (stopAtFailed === undefined || failed < stopAtFailed) return undefined
  return `${failed} of ${members.length} hosts failed, and ${stopAtFailed} are too many`
}

export function isEndedUnwell({ state }: Pick<Member, 'state'>): boolean {
  return state === 'failed' || state === 'cancelled'
}

/** The policy after somebody has let the rollout go on: a canary that did not end well holds it up no more. */
export function resumedPolicy(policy: Policy, members: readonly Pick<Member, 'state' | 'wave'>[]): Policy {
  const isUnwell = members.some((member) => member.wave === 0 && isEndedUnwell(member))
  return isUnwell ? { ...policy, canary: undefined } : policy
}

function endOf({ total, done, failed }: Tally, quorum: number | undefined): Conduct {
  const counts = `${done} of ${total} hosts are done, ${failed} failed`
  if (done + failed === 0) return { kind: 'end', to: 'cancelled', why: 'all of its hosts were cancelled' }
  if (done >= (quorum ?? total)) return { kind: 'end', to: 'succeeded', why: counts }
  return { kind: 'end', to: done === 0 ? 'failed' : 'partly-failed', why: counts }
}
