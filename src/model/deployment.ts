// One host's part of a rollout: the state machine as a table. Which states there are, who may move a deployment where, how
// long each state and each step of the agent may last, and what happens then. The engine, the handlers, the CLI and
// docs/states.md read it; `moveDeployment` of the database lets nothing through that it does not allow.
import type { FailureCode } from './failure.ts'

/**
 * Who moves a deployment: the engine's loop, the conductor that lets the hosts of a rollout begin, a report of the agent, a
 * person at the Control Port, or the repair of a database that was restored.
 */
export const movers = ['engine', 'conductor', 'agent', 'operator', 'repair'] as const
export type Mover = (typeof movers)[number]

/** What the length of a wait depends on. */
export type Scale = {
  /** Hosts of the rollout that are under way, this one too: they share loaders, controllers and the origin. */
  readonly hosts: number
  /** Bytes that are to come or to be read; 0 where nobody knows. */
  readonly bytes: number
  /** The longest that the host stays as a source when its disk is whole. */
  readonly lingerMs: number
}

/** What a setup, or the order of a capture or an erasure, says of the times; undefined: the table's. */
export type GivenDeadlines = {
  /** From power-on to the agent's registration, each attempt. */
  readonly bootMs: number | undefined
  /** From registration to the proven disk. */
  readonly deployMs: number | undefined
  /** From the agent's reboot to the observed new system. */
  readonly observeMs: number | undefined
  /** How often the machine is told to boot the scout before the deployment fails. */
  readonly attempts: number
}

/** How long something may last. `given` is the setup's own word for it, which is exact where there is one. */
export type Limit = {
  readonly baseMs: number
  readonly perHostMs?: number
  /** The slowest that bytes may come. */
  readonly bytesPerSecondMin?: number
  readonly withLinger?: true
  readonly given?: Exclude<keyof GivenDeadlines, 'attempts'>
}

/** `another-attempt`: the machine boots the scout anew, as often as its setup allows, and then the deployment fails. */
export type AtDeadline = 'another-attempt' | 'fail'

type StateRule = {
  readonly means: string
  readonly waitsFor: string
  /** Undefined: as long as the policy of the rollout says. */
  readonly limit: Limit | undefined
  readonly atDeadline: AtDeadline
  /** How the deployment fails when its time is up. */
  readonly code: FailureCode
  /** Where it may go from here, and who may move it there. */
  readonly next: Readonly<Partial<Record<DeploymentState, readonly Mover[]>>>
}

type EndRule = { readonly means: string }

/** In order of a deployment's life, the three ends last. */
export const deploymentStates = [
  'waiting',
  'queued',
  'powering',
  'booting',
  'deploying',
  'rebooting',
  'done',
  'failed',
  'cancelled',
] as const
export type DeploymentState = (typeof deploymentStates)[number]
type EndState = 'done' | 'failed' | 'cancelled'
export type OpenState = Exclude<DeploymentState, EndState>
/** Under way: the engine moves these on. */
export type ActiveState = Exclude<OpenState, 'waiting'>

const seconds = 1000
const minutes = 60 * seconds
const hours = 60 * minutes

export const stateRules: Readonly<Record<OpenState, StateRule>> & Readonly<Record<EndState, EndRule>> = {
  waiting: {
    means: 'its rollout has not let it begin: its machine and its boot record are untouched',
    waitsFor: 'its rollout to let it begin',
    limit: undefined,
    atDeadline: 'fail',
    code: 'deadline',
    next: { queued: ['conductor'], failed: ['repair'], cancelled: ['operator', 'conductor'] },
  },
  queued: {
    means: 'nothing is asked yet',
    waitsFor: 'its turn',
    limit: { baseMs: hours, perHostMs: 30 * seconds },
    atDeadline: 'fail',
    code: 'deadline',
    next: { powering: ['engine'], failed: ['engine', 'repair'], cancelled: ['operator'] },
  },
  powering: {
    means: 'the controller is being asked',
    waitsFor: 'the controller to switch the machine',
    // Controllers that are silent or lie are asked again for so long; a chassis switches its blades one after the other.
    limit: { baseMs: 5 * minutes, perHostMs: 5 * seconds },
    atDeadline: 'fail',
    code: 'bmc-unreachable',
    // A machine can be up before its controller has said so: then its agent is believed.
    next: { booting: ['engine'], deploying: ['agent'], failed: ['engine', 'agent', 'repair'], cancelled: ['operator'] },
  },
  booting: {
    means: 'the machine is on, and its agent has not registered yet',
    waitsFor: 'the machine to ask for its boot file',
    // Servers take ten minutes to test their memory; all of them fetch the scout from here.
    limit: { baseMs: 20 * minutes, perHostMs: seconds, given: 'bootMs' },
    atDeadline: 'another-attempt',
    code: 'boot-timeout',
    next: {
      deploying: ['agent'],
      powering: ['engine'],
      failed: ['engine', 'agent', 'repair'],
      cancelled: ['operator'],
    },
  },
  deploying: {
    means: 'the agent is at work and reports',
    waitsFor: 'the agent to finish',
    limit: {
      baseMs: 4 * hours,
      perHostMs: 10 * seconds,
      bytesPerSecondMin: 1_000_000,
      withLinger: true,
      given: 'deployMs',
    },
    atDeadline: 'fail',
    code: 'deadline',
    next: {
      rebooting: ['agent'],
      // What the agent could not do may succeed in another attempt.
      powering: ['engine', 'agent'],
      booting: ['engine'],
      failed: ['engine', 'agent', 'repair'],
      cancelled: ['operator'],
    },
  },
  rebooting: {
    means: 'the agent has handed over, and the new system has not been seen yet',
    waitsFor: 'the new system to show itself',
    limit: { baseMs: 20 * minutes, given: 'observeMs' },
    atDeadline: 'fail',
    code: 'probe-timeout',
    next: { done: ['engine'], failed: ['engine', 'repair'], cancelled: ['operator'] },
  },
  done: { means: 'the new system was seen, or nobody was to look for one' },
  failed: { means: 'it could not go on; step, code and words say why' },
  cancelled: { means: 'a person ended it' },
}

/** Not ended. */
export function isOpen(state: DeploymentState): state is OpenState {
  return 'next' in stateRules[state]
}

/** Under way: the engine moves it on. */
export function isActive(state: DeploymentState): state is ActiveState {
  return isOpen(state) && Object.values(stateRules[state].next).some((movers) => movers.includes('engine'))
}

export const openStates = deploymentStates.filter(isOpen)
export const activeStates = deploymentStates.filter(isActive)

/** Whether the table lets `by` move a deployment so. */
export function mayMove(from: DeploymentState, to: DeploymentState, by: Mover): boolean {
  return isOpen(from) && (stateRules[from].next[to]?.includes(by) ?? false)
}

/** Which operation is allowed in which state; handlers, CLI and dashboard all read this table. */
export const allowedIn = {
  cancel: openStates.filter((state) => mayMove(state, 'cancelled', 'operator')),
  retry: ['failed', 'cancelled'],
} satisfies Record<string, readonly DeploymentState[]>

type StepRule = {
  readonly of: readonly ('deploy' | 'capture' | 'erase')[]
  /** Undefined: as long as the whole work may last. */
  readonly limit: Limit | undefined
}

/**
 * What the agent does while a deployment is `deploying`, in this order; a setup that does not ask for a step has none. In
 * `share` the disk is whole and the host stays as a source while others still gain from it. A step that lasts too long
 * ends the attempt, not the deployment.
 */
export const deploymentSteps = [
  'inventory',
  'disk',
  'erase',
  'layout',
  'compare',
  'transfer',
  'verify',
  'boot-block',
  'post-install',
  'share',
  'hygiene',
  'repair',
  'capture',
  'publish',
  'finish',
] as const
export type DeploymentStep = (typeof deploymentSteps)[number]

const wholeDisk = 5_000_000

export const stepRules: Readonly<Record<DeploymentStep, StepRule>> = {
  inventory: { of: ['deploy', 'capture', 'erase'], limit: { baseMs: 10 * minutes } },
  disk: { of: ['deploy'], limit: { baseMs: 30 * minutes } },
  // Several large rotating disks, one after the other, take days.
  erase: { of: ['deploy', 'erase'], limit: undefined },
  layout: { of: ['deploy'], limit: { baseMs: hours } },
  compare: { of: ['deploy'], limit: { baseMs: 30 * minutes, bytesPerSecondMin: wholeDisk } },
  // Of bytes of disk: zeros and what compresses well make them cheaper than bytes on the wire.
  transfer: {
    of: ['deploy'],
    limit: { baseMs: 30 * minutes, perHostMs: 10 * seconds, bytesPerSecondMin: 1_000_000 },
  },
  verify: { of: ['deploy'], limit: { baseMs: 30 * minutes, bytesPerSecondMin: wholeDisk } },
  'boot-block': { of: ['deploy'], limit: { baseMs: 10 * minutes } },
  'post-install': { of: ['deploy'], limit: { baseMs: 2 * hours } },
  share: { of: ['deploy'], limit: { baseMs: 10 * minutes, withLinger: true } },
  hygiene: { of: ['capture'], limit: { baseMs: 2 * hours } },
  repair: { of: ['capture'], limit: { baseMs: 2 * hours } },
  capture: { of: ['capture'], limit: undefined },
  publish: { of: ['capture'], limit: undefined },
  finish: { of: ['deploy', 'capture', 'erase'], limit: { baseMs: 30 * minutes } },
}

/** How long a deployment may be in a state. */
export function stateMs(state: ActiveState, scale: Scale, given: GivenDeadlines): number {
  const { limit } = stateRules[state]
  return limit === undefined ? Number.POSITIVE_INFINITY : limitMs(limit, scale, given)
}

/**
 * How long the agent may be in a step. A setup that gives the whole work a time of its own knows its lines and disks: then
 * the steps that move bytes have all of it.
 */
export function stepMs(step: DeploymentStep, scale: Scale, given: GivenDeadlines): number {
  const { limit } = stepRules[step]
  if (limit === undefined) return Number.POSITIVE_INFINITY
  const ms = limitMs(limit, scale, given)
  return limit.bytesPerSecondMin === undefined ? ms : Math.max(ms, given.deployMs ?? 0)
}

function limitMs(limit: Limit, { hosts, bytes, lingerMs }: Scale, given: GivenDeadlines): number {
  const own = limit.given && given[limit.given]
  // To stay as a source is no delay of the work: its time is not taken from the setup's.
  const linger = limit.withLinger ? lingerMs : 0
  if (own !== undefined) return own + linger
  const forBytes = limit.bytesPerSecondMin === undefined ? 0 : (bytes / limit.bytesPerSecondMin) * seconds
  return Math.round(limit.baseMs + hosts * (limit.perHostMs ?? 0) + forBytes + linger)
}

/** What the agent does when the disk is proven. `kexec` starts the new kernel without firmware, `stay` nothing. */
export const finalActions = ['reboot', 'kexec', 'poweroff', 'stay'] as const
export type FinalAction = (typeof finalActions)[number]
