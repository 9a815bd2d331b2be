// One machine that is switched so that it boots what its boot record says: the states it goes through, and what is to be
// done next, decided from a few facts without a clock or a database.
import type { BootTarget } from './boot.ts'
import { needsNetwork } from './boot.ts'

export const rebootStates = ['waiting', 'switching', 'booting', 'done', 'failed'] as const
export type RebootState = (typeof rebootStates)[number]

/** How long a machine may take from being switched on to asking for its script. Large servers test their memory for minutes. */
export const bootAskMs = 15 * 60_000

export type RebootFacts = {
  readonly state: RebootState
  readonly target: BootTarget
  /** When its controller was first asked to switch it. */
  readonly beganAt: number | undefined
  readonly deadlineAt: number | undefined
  /** What its boot record says, and when a loader asked for it; undefined: the record is another by now. */
  readonly record: { readonly askedAt: number | null } | undefined
}

export type RebootDecision =
  | { readonly kind: 'switch' }
  | { readonly kind: 'done'; readonly said: string }
  | { readonly kind: 'fail'; readonly code: 'boot-timeout' | 'wrong-state'; readonly why: string }
  | { readonly kind: 'wait' }

export function decideReboot(facts: RebootFacts, now: number): RebootDecision {
  const { state, target, beganAt, deadlineAt, record } = facts
  if (record === undefined) {
    return {
      kind: 'fail',
      code: 'wrong-state',
      why: 'its boot record was changed meanwhile: somebody else wants it to boot something else',
    }
  }
  // Also after the service was stopped in the middle of a power cycle: a machine that has asked need not be switched again.
  if (needsNetwork(target) && beganAt !== undefined && record.askedAt !== null && record.askedAt >= beganAt) {
    return { kind: 'done', said: `it asked for its script: boots ${target}` }
  }
  if (state !== 'booting') return { kind: 'switch' }
  if (deadlineAt !== undefined && now >= deadlineAt) {
    const minutes = Math.round((now - (beganAt ?? now)) / 60_000)
    const why = `it was switched on, and has not asked for its script within ${minutes} min: it did not boot from the network, or its requests do not reach us`
    return { kind: 'fail', code: 'boot-timeout', why }
  }
  return { kind: 'wait' }
}
