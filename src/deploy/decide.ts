// What to do with a deployment, decided from its row and a few facts: pure, so that every case is a test without a clock,
// a socket or a database. engine.ts performs what is decided.
import type { ActiveState } from '../model/deployment.ts'
import type { FailureCode } from '../model/failure.ts'
import type { Course } from '../model/setup.ts'

export type DeploymentFacts = {
  readonly state: ActiveState
  readonly stateSince: number
  readonly deadlineAt: number | undefined
  readonly attempt: number
  /** Last report of the agent in this attempt, or the engine's own start if that was later: silence while the service was
   *  down is nobody's fault. */
  readonly heardAt: number | undefined
  /** The newest boot request of the machine in this state (DHCP, TFTP, HTTP), if there was any. */
  readonly bootSeen: { readonly at: number; readonly text: string } | undefined
  /** While `deploying`: when the machine asked for a boot script again, which a machine with a living agent never does. */
  readonly bootedAgainAt: number | undefined
  /** While `rebooting`: whether the new system was seen. */
  readonly observed: boolean
  /** Whether the machine was already reset once after it failed to show its new system. */
  readonly nudged: boolean
}

export type Decision =
  /** Ask the controller: boot device network, power cycle; then `booting`. Begins a new attempt. */
  | { readonly kind: 'power'; readonly why: string }
  /** Machine is already asking for its boot file again: a new attempt without touching its power. */
  | { readonly kind: 'boot-again'; readonly why: string }
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

/** How often rows are looked at while nothing is due; reports and requests do not wait for it. */
const lookEveryMs = 1000

export function decide(facts: DeploymentFacts, setup: Course, now: number): Decision {
  switch (facts.state) {
    case 'queued':
    case 'powering':
      return { kind: 'power', why: facts.attempt === 0 ? 'the rollout began' : `attempt ${facts.attempt + 1}` }
    case 'booting':
      return decideBooting(facts, setup, now)
    case 'deploying':
      return decideDeploying(facts, setup, now)
    case 'rebooting':
      return decideRebooting(facts, setup, now)
  }
}

function decideBooting(facts: DeploymentFacts, setup: Course, now: number): Decision {
  const seen = facts.bootSeen
  const late = facts.deadlineAt !== undefined && now >= facts.deadlineAt
  const stalled = seen !== undefined && now - seen.at >= bootStallMs
  if (!late && !stalled) {
    const waitingFor = seen
      ? `the agent to register; the machine was last seen with: ${seen.text}`
      : 'the machine to ask for its boot file'
    return { kind: 'wait', untilMs: now + lookEveryMs, waitingFor }
  }
  const minutes = Math.round((now - facts.stateSince) / 6000) / 10
  const why = seen
    ? `no agent registered within ${minutes} min; the last thing heard of the machine was: ${seen.text}`
    : `the machine asked for nothing within ${minutes} min: it did not boot from the network, or its requests do not reach us`
  return anotherAttempt(facts, setup, 'boot-timeout', why)
}

function decideDeploying(facts: DeploymentFacts, setup: Course, now: number): Decision {
  if (facts.deadlineAt !== undefined && now >= facts.deadlineAt) {
    return { kind: 'fail', code: 'deadline', why: 'the agent did not finish within the time that the setup gives it' }
  }
  const heardAt = facts.heardAt ?? facts.stateSince
  if (facts.bootedAgainAt !== undefined && facts.bootedAgainAt > heardAt) {
    const why = 'the machine booted again while its agent was at work'
    return facts.attempt < setup.deadlines.attempts
      ? { kind: 'boot-again', why }
      : { kind: 'fail', code: 'agent-silent', why: `${why}, in attempt ${facts.attempt}` }
  }
  if (now - heardAt >= agentSilenceMs) {
    const why = `the agent has reported nothing for ${Math.round((now - heardAt) / 1000)} s`
    return anotherAttempt(facts, setup, 'agent-silent', why)
  }
  return { kind: 'wait', untilMs: now + lookEveryMs, waitingFor: 'the agent to finish' }
}

function decideRebooting(facts: DeploymentFacts, setup: Course, now: number): Decision {
  if (setup.finish.action === 'stay') {
    return { kind: 'done', why: 'the disk is proven; the machine stays in the scout, as its setup says' }
  }
  if (setup.probe.kind === 'none') return { kind: 'done', why: 'nobody looked for the new system' }
  if (facts.observed) return { kind: 'done', why: 'the new system was observed' }
  const { probe, deadlines } = setup
  const what = probe.kind === 'tcp' ? `to answer on TCP port ${probe.port}` : 'to ask for its address by DHCP'
  const powersOff = setup.finish.action === 'poweroff'
  const waitedMs = now - facts.stateSince
  if (facts.deadlineAt !== undefined && now >= facts.deadlineAt) {
    const why = powersOff
      ? 'the disk is proven, but the machine did not switch off'
      : `the disk is proven, but the new system was not seen ${what} within ${Math.round(waitedMs / 1000)} s`
    return { kind: 'fail', code: 'probe-timeout', why }
  }
  if (!powersOff && !facts.nudged && waitedMs >= deadlines.observeMs / 2) {
    return { kind: 'nudge', why: `the new system was not seen ${what} within ${Math.round(waitedMs / 1000)} s` }
  }
  const waitingFor = powersOff ? 'the machine to switch off' : `the new system ${what}`
  return { kind: 'wait', untilMs: now + lookEveryMs, waitingFor }
}

function anotherAttempt(facts: DeploymentFacts, setup: Course, code: FailureCode, why: string): Decision {
  return facts.attempt < setup.deadlines.attempts
    ? { kind: 'power', why }
    : { kind: 'fail', code, why: `${why} (attempt ${facts.attempt} of ${setup.deadlines.attempts})` }
}
