// What was tried for one host, and what to try next: the ladders of power, boot and transfer. Every try has a number and is
// recorded before it is made, so that none is made twice; a try without an outcome was cut short by the death of a service.
import type { FailureCode } from './failure.ts'
import type { Loader } from './host.ts'
import type { TransferEngine } from './swarm.ts'

/**
 * How hard a machine is switched: `soft` lets its system shut down first, `cold` leaves it off long enough for power
 * supplies to run empty and for controllers of cards to forget.
 */
export const powerLevels = ['soft', 'hard', 'cold'] as const
export type PowerLevel = (typeof powerLevels)[number]

/** How long a `cold` cycle leaves the machine off. */
export const coldSeconds = 30

/** One order to a controller: how, by which of the host's power methods (counted from 0), and its place in the ladder. */
export type Rung = { readonly level: PowerLevel; readonly method: number; readonly place: number }

/** The step that is tried, or tried in another way. `observe`: a machine that did not show its new system is switched. */
export const triedSteps = ['power', 'boot', 'transfer', 'work', 'observe'] as const
export type TriedStep = (typeof triedSteps)[number]

/** One try, as it is kept with its deployment. */
export type Try = {
  readonly attempt: number
  readonly step: TriedStep
  /** In words, as `cold, by method 2`. */
  readonly how: string
  readonly at: number
  readonly rung?: Rung
  readonly outcome?: string
  /** There when it failed. */
  readonly code?: FailureCode
  /** It failed in a way that asking again cannot mend. */
  readonly final?: true
}

/** Tries kept of one deployment; the oldest go first. */
export const triesMax = 100

/** Orders to controllers in one attempt: as many as its time allows, were each refused at once. */
export const ordersMax = 30

/** So many attempts may be added for those in which no service was there. */
export const extraAttemptsMax = 5

/** The orders of one method, in turn. A system that is to be captured is shut down once; others lose their disk anyway. */
export const ladders = {
  first: ['hard', 'hard', 'cold'],
  firstOfCapture: ['soft', 'hard', 'cold'],
  // A machine that did not boot after an ordinary cycle is left off for longer.
  later: ['cold', 'hard', 'hard'],
} as const satisfies Record<string, readonly PowerLevel[]>

/**
 * The next order to a controller in this attempt, after `tries`: one method's ladder after the other, then from the start,
 * without the methods that refused. Undefined: nothing is left to try.
 */
export function nextRung(
  tries: readonly Try[],
  of: { readonly attempt: number; readonly kind: string; readonly methods: number },
): Rung | undefined {
  const mine = tries.filter(({ attempt, step }) => attempt === of.attempt && step === 'power')
  const refused = new Set(mine.flatMap(({ final, rung }) => (final && rung ? [rung.method] : [])))
  const ladder = of.attempt > 1 ? ladders.later : of.kind === 'capture' ? ladders.firstOfCapture : ladders.first
  // Of a host without a method the Power Port says so, once.
  const rungs = Array.from({ length: Math.max(1, of.methods) }, (_, method) => method).flatMap((method) =>
    ladder.map((level, index): Rung => ({ level, method, place: method * ladder.length + index })),
  )
  // The next attempt begins with the next method: one that says yes and does nothing looks like any other.
  const first = ((Math.max(1, of.attempt) - 1) % Math.max(1, of.methods)) * ladder.length
  const before = mine.at(-1)?.rung?.place ?? first - 1
  const inTurn = rungs.map((_, index) => rungs[(before + 1 + index) % rungs.length])
  return mine.length >= ordersMax ? undefined : inTurn.find((rung) => rung && !refused.has(rung.method))
}

/** The loader of an attempt: from the third on every other one has another than its host, as long as the machine was heard. */
export function loaderOf(attempt: number, own: Loader, wasHeard: boolean): Loader | undefined {
  if (attempt < 3 || attempt % 2 === 0 || !wasHeard) return undefined
  return own === 'ipxe' ? 'auto' : 'ipxe'
}

/** How the image comes in the next attempt when this one ended in `step`; undefined: as the rollout says. */
export function engineAfter(step: string | null, before: TransferEngine | null): TransferEngine | undefined {
  return step === 'transfer' ? 'http' : (before ?? undefined)
}

/** A try is added, or the last one of its kind gets its outcome. */
export function withTry(tries: readonly Try[], one: Try): Try[] {
  return [...tries, one].slice(-triesMax)
}

/** The last try, which was being made, has ended. */
export function withOutcome(tries: readonly Try[], outcome: Pick<Try, 'outcome' | 'code' | 'final'>): Try[] {
  return tries.map((one, index) => (index === tries.length - 1 ? { ...one, ...outcome } : one))
}

/** Reads what the database keeps; `withTry` made it. */
export function readTries(json: string | null): Try[] {
  return json === null ? [] : (JSON.parse(json) as Try[])
}
