// One rule of `explain`: a cause, the words for it, what to check, and the function that finds it in a trail.
import type { StoryEvent } from './story.ts'
import type { Trail } from './trail.ts'

/**
 * How sure a rule is. `certain`: something said so itself. `likely`: this is what such a trail nearly always means.
 * `possible`: it fits, and so may others.
 */
export const likelihoods = ['certain', 'likely', 'possible'] as const
export type Likelihood = (typeof likelihoods)[number]

export type Found = {
  readonly likelihood: Likelihood
  /** The events that show it; the first is the odd one. */
  readonly evidence: readonly StoryEvent[]
  /** Lines of console or log that show it. */
  readonly lines?: readonly string[]
  /** The values in hand, where the title alone says too little. */
  readonly detail?: string
}

export type Rule = {
  /** Its name for programs. */
  readonly cause: string
  /** What is the matter, in a sentence. */
  readonly title: string
  /** What to look at, the likeliest first. */
  readonly check: readonly string[]
  readonly find: (trail: Trail) => Found | undefined
}

/** Found when there is such an event, with all of them as evidence. */
export function foundIn(
  events: readonly StoryEvent[],
  is: (event: StoryEvent) => boolean,
  likelihood: Likelihood,
): Found | undefined {
  const evidence = events.filter(is).slice(-evidenceMax)
  return evidence.length === 0 ? undefined : { likelihood, evidence }
}

/** Found when console or log have such a line. */
export function foundInLines(lines: readonly string[], form: RegExp, likelihood: Likelihood): Found | undefined {
  const told = lines.filter((line) => form.test(line)).slice(-evidenceMax)
  return told.length === 0 ? undefined : { likelihood, evidence: [], lines: told.map((line) => line.slice(0, 300)) }
}

/** More than a reader looks at. */
const evidenceMax = 6

/** The lines of the agent's log that the deployment kept, and of the console. */
export function linesOf({ story }: Trail): readonly string[] {
  return [...story.console, ...(story.deployment?.log?.split('\n') ?? [])]
}

/** The sentences of the deployment's failure. */
export function failureWords({ story }: Trail): string {
  return story.deployment?.failure?.message.join(': ') ?? ''
}

/** The event in which the deployment failed. */
export function failedEvent({ events }: Trail): readonly StoryEvent[] {
  const event = events.findLast(({ kind }) => kind === 'failed')
  return event === undefined ? [] : [event]
}

/** Found when the deployment failed with one of these codes. */
export function failedWith(trail: Trail, codes: readonly string[]): Found | undefined {
  const { failure } = trail.story.deployment ?? {}
  if (failure === undefined || !codes.includes(failure.code)) return undefined
  return { likelihood: 'certain', evidence: failedEvent(trail), detail: failureWords(trail) }
}

export function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}
