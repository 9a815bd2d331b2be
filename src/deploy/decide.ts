// What to do with a deployment, decided from its row and a few facts: pure, so that every case is a test without a clock,
// a socket or a database. How long things may last, and what happens then, is in the table of model/deployment.ts; perform.ts
// does what is decided.
import { type ActiveState, type DeploymentStep, type Scale, stateRules, stepMs } from '../model/deployment.ts'
import type { FailureCode } from '../model/failure.ts'
import type { Course } from '../model/setup.ts'
import { nextRung, type Rung, type Try } from '../model/tries.ts'

export type DeploymentFacts = {
  readonly state: ActiveState
  readonly kind: string
  readonly attempt: number
  /** Whether the machine may be told to boot the scout once more. */
  readonly hasAttemptLeft: boolean
  /** The row's, or what the table gives a state that was just entered. */
  readonly deadlineAt: number
  /** How long the state may last in all. */
  readonly limitMs: number
  /** Last sign of life in this state: a boot request, or a report of the agent. */
  readonly heardAt: number | undefined
  /** What the machine asked for last, in this boot. */
  readonly bootSeen: string | undefined
  /** While `deploying`: the machine has asked for a boot script again, which a machine with a living agent never does. */
  readonly bootedAgain: boolean
  readonly step: { readonly name: DeploymentStep; readonly since: number } | undefined
  readonly scale: Scale
  /** While `rebooting`: whether the new system was seen. */
  readonly observed: boolean
  readonly tries: readonly Try[]
  /** How many power methods the host has. */
  readonly methods: number
}

export type Decision =
  /** A new attempt: `powering` switches the machine, `booting` finds it booting by itself. */
  | { readonly kind: 'attempt'; readonly to: 'powering' | 'booting'; readonly why: string }
  /** One order to a controller: boot device network, then power. */
  | { readonly kind: 'order'; readonly rung: Rung }
  /** The new system was not seen yet: boot device disk, power cycle, once. */
  | { readonly kind: 'nudge'; readonly why: string }
  | { readonly kind: 'done'; readonly why: string }
  | { readonly kind: 'fail'; readonly code: FailureCode; readonly why: string }
  | { readonly kind: 'wait'; readonly untilMs: number; readonly waitingFor: string }

/** An agent reports at least every few seconds; a broken network may take this long to come back. */
export const agentSilenceMs = 120_000

/**
 * A machine that has begun to boot asks for the next file within seconds. Some firmware never hears an answer and stops
 * without a word (seen with OVMF): after this long without another request it is power-cycled.
 */
export const bootStallMs = 120_000

/** How often a row is looked at while nothing is due: each second, and more slowly the more hosts there are. */
const lookEveryMs = 1000
const lookEveryMsPerHost = 5
const lookEveryMsMax = 15_000

/** A machine that was not seen again is switched so often at most, those included that a service did not live to finish. */
const nudgesMax = 3

export function decide(facts: DeploymentFacts, setup: Course, now: number): Decision {
  switch (facts.state) {
    case 'queued':
      return now >= facts.deadlineAt
        ? timeIsUp(facts, 'its turn never came: no service had time to switch it')
        : { kind: 'attempt', to: 'powering', why: 'the rollout began' }
    case 'powering':
      return decidePowering(facts, now)
    case 'booting':
      return decideBooting(facts, now)
    case 'deploying':
      return decideDeploying(facts, setup, now)
    case 'rebooting':
      return decideRebooting(facts, setup, now)
  }
}

function decidePowering(facts: DeploymentFacts, now: number): Decision {
  const mine = facts.tries.filter(({ step, attempt }) => step === 'power' && attempt === facts.attempt)
  const last = mine.findLast(({ code }) => code !== undefined)
  const rung = now >= facts.deadlineAt ? undefined : nextRung(mine, facts)
  if (rung) return { kind: 'order', rung }
  const times = mine.length > 1 ? ` (${mine.length} orders)` : ''
  const why = `the machine could not be switched: ${last?.outcome ?? 'no controller had answered by the deadline'}${times}`
  return timeIsUp(facts, why, last?.code)
}

function decideBooting(facts: DeploymentFacts, now: number): Decision {
  const { bootSeen, heardAt } = facts
  const late = now >= facts.deadlineAt
  const stalled = bootSeen !== undefined && heardAt !== undefined && now - heardAt >= bootStallMs
  if (!late && !stalled) {
    const waitingFor = bootSeen
      ? `the agent to register; the machine was last seen with: ${bootSeen}`
      : stateRules.booting.waitsFor
    return wait(facts, now, waitingFor)
  }
  const minutes = inMinutes(facts.limitMs - (facts.deadlineAt - now))
  const why = bootSeen
    ? `no agent registered within ${minutes} min; the last thing heard of the machine was: ${bootSeen}`
    : `the machine asked for nothing within ${minutes} min: it did not boot from the network, or its requests do not reach us`
  return timeIsUp(facts, why)
}

function decideDeploying(facts: DeploymentFacts, setup: Course, now: number): Decision {
  const { code, waitsFor } = stateRules.deploying
  if (now >= facts.deadlineAt) return timeIsUp(facts, 'the agent did not finish within the time that it was given')
  if (facts.bootedAgain) {
    const why = 'the machine booted again while its agent was at work'
    if (facts.hasAttemptLeft) return { kind: 'attempt', to: 'booting', why }
    return { kind: 'fail', code: 'agent-silent', why: `${why}, in attempt ${facts.attempt}` }
  }
  const silentMs = now - (facts.heardAt ?? now)
  if (silentMs >= agentSilenceMs) {
    return anotherAttempt(facts, 'agent-silent', `the agent has reported nothing for ${Math.round(silentMs / 1000)} s`)
  }
  const { step } = facts
  if (step !== undefined) {
    const limitMs = stepMs(step.name, facts.scale, setup.deadlines)
    if (now - step.since >= limitMs) {
      return anotherAttempt(facts, code, `step ${step.name} did not end within ${inMinutes(limitMs)} min`)
    }
  }
  return wait(facts, now, waitsFor)
}

function decideRebooting(facts: DeploymentFacts, setup: Course, now: number): Decision {
  if (setup.finish.action === 'stay') {
    return { kind: 'done', why: 'the disk is proven; the machine stays in the scout, as its setup says' }
  }
  if (setup.probe.kind === 'none') return { kind: 'done', why: 'nobody looked for the new system' }
  if (facts.observed) return { kind: 'done', why: 'the new system was observed' }
  const { probe } = setup
  const what = probe.kind === 'tcp' ? `to answer on TCP port ${probe.port}` : 'to ask for its address by DHCP'
  const powersOff = setup.finish.action === 'poweroff'
  const waitedMs = facts.limitMs - (facts.deadlineAt - now)
  const within = `within ${Math.round(waitedMs / 1000)} s`
  if (now >= facts.deadlineAt) {
    const why = powersOff
      ? 'the disk is proven, but the machine did not switch off'
      : `the disk is proven, but the new system was not seen ${what} ${within}`
    return timeIsUp(facts, why)
  }
  const nudges = facts.tries.filter(({ step }) => step === 'observe')
  const isNudged = nudges.some(({ outcome }) => outcome !== undefined) || nudges.length >= nudgesMax
  if (!powersOff && !isNudged && waitedMs >= facts.limitMs / 2) {
    return { kind: 'nudge', why: `the new system was not seen ${what} ${within}` }
  }
  return wait(facts, now, powersOff ? 'the machine to switch off' : `the new system ${what}`)
}

/** What the table says of the end of a state's time. */
function timeIsUp(facts: DeploymentFacts, why: string, code = stateRules[facts.state].code): Decision {
  return stateRules[facts.state].atDeadline === 'another-attempt'
    ? anotherAttempt(facts, code, why)
    : { kind: 'fail', code, why }
}

function anotherAttempt(facts: DeploymentFacts, code: FailureCode, why: string): Decision {
  if (facts.hasAttemptLeft) return { kind: 'attempt', to: 'powering', why }
  return { kind: 'fail', code, why: `${why} (attempt ${facts.attempt}, the last)` }
}

function wait({ scale }: DeploymentFacts, now: number, waitingFor: string): Decision {
  const everyMs = Math.min(lookEveryMsMax, lookEveryMs + scale.hosts * lookEveryMsPerHost)
  return { kind: 'wait', untilMs: now + everyMs, waitingFor }
}

function inMinutes(ms: number): number {
  return Math.round(ms / 6000) / 10
}
