// One thing that is done after the images, with its time limit and its line in the record. It says what it did; what cannot
// apply says why; what was asked for and cannot be done is a Failure.
import type { ProofAction } from '../../contract/types.ts'
import { causeChain, Failure } from '../../model/failure.ts'

export type ActionResult = { readonly outcome: 'done' | 'skipped'; readonly text: string }

export type Action = {
  /** As it stands in the record. */
  readonly name: string
  readonly timeoutMs: number
  readonly run: (signal: AbortSignal) => Promise<ActionResult>
}

export const done = (text: string): ActionResult => ({ outcome: 'done', text })
export const skipped = (text: string): ActionResult => ({ outcome: 'skipped', text })

/** Files are written in a moment; a slow disk has this long. */
export const fileActionMs = 120_000

/** Bounds of the contract's `proofAction`. */
const nameCharactersMax = 190
const textCharactersMax = 4000

export type Recorder = {
  /** Grows by one row for each action, also for the one that failed. */
  readonly record: ProofAction[]
  /** A line for the timeline. */
  readonly tell: (kind: string, text: string) => Promise<unknown>
}

/**
 * Does it within its time, records it and tells it. Throws Failure: the action's own with its name before it, or
 * `post-install-failed` when the time was up; and the reason of `signal`.
 */
export async function perform(action: Action, { record, tell }: Recorder, signal: AbortSignal): Promise<void> {
  const beganMs = performance.now()
  const late = AbortSignal.timeout(action.timeoutMs)
  const note = async (outcome: ProofAction['outcome'], text: string) => {
    const name = action.name.slice(0, nameCharactersMax)
    const seconds = Math.round(performance.now() - beganMs) / 1000
    record.push({ name, outcome, text: text.slice(0, textCharactersMax), seconds })
    await tell('post-install', `${action.name} ${outcome}: ${text}`.slice(0, textCharactersMax))
  }
  try {
    const { outcome, text } = await action.run(AbortSignal.any([signal, late]))
    await note(outcome, text)
  } catch (error) {
    signal.throwIfAborted()
    const why = late.aborted ? [`it took longer than ${action.timeoutMs / 1000} s`] : causeChain(error)
    await note('failed', why.join(': '))
    const code = error instanceof Failure ? error.code : 'post-install-failed'
    throw new Failure(code, `post-install: ${action.name} failed`, { cause: late.aborted ? new Error(why[0]) : error })
  }
}
