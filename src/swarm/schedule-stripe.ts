// One stripe of the pieces as the scheduler follows it: whom to ask for it, who is asked, and what came of that.
import { limits } from './schedule-limits.ts'

/** The level that was left, and the pace of whom we ask now. */
type Trial = { readonly since: number; readonly from: number; readonly fair: number }

export type Stripe = {
  /** Whom to ask, the predecessor first; beyond its end the web seeds. */
  line: readonly string[]
  depth: number
  /** Which of them is asked: an index of `line`, its length for the web seeds. */
  level: number
  levelSince: number
  /** When its first source became that. */
  routedAt: number
  /** Who was asked before the route changed, and still is until its successor is connected. */
  former: string | undefined
  /** All pieces of the stripe below are here. */
  low: number
  /** When the last piece of it arrived. */
  progressAt: number
  /** Who before us is to fetch what we lack, the first piece that it lacks itself, and since when that is the first. */
  fetcher: { readonly source: string; readonly piece: number; readonly since: number } | undefined
  /** The longest time without a piece of late, as it was after the last piece. */
  gapMs: number
  returnMs: number
  /** The source was left because it lacked what we lack: with that it is as good as before. */
  wasBehind: boolean
  /** Whoever has something missing is asked: there is nobody before us, or nothing comes from there. */
  asksAnyone: boolean
  /** The level was changed because the source was slow, and it is not known yet whether that was right. */
  trial: Trial | undefined
  /** Our best pace while we had all that our source had. Catching up with it is faster, and says nothing of it. */
  edgeBest: number
  wasAtEdge: boolean
  trialPauseMs: number
  noTrialUntil: number
  /** How many times on end the source was found to be slow. */
  slowTimes: number
}

/** Where in a new line the source stands that is asked now; one that is not in it any more gives way to the first. */
export function sameLevel({ line: before, level }: Stripe, line: readonly string[]): number {
  if (level >= before.length) return line.length
  return Math.max(0, line.indexOf(before[level] ?? ''))
}

export function emptyStripe(line: readonly string[], depth: number, now: number): Stripe {
  return {
    line,
    depth,
    level: 0,
    levelSince: now,
    routedAt: now,
    former: undefined,
    low: 0,
    progressAt: now,
    fetcher: undefined,
    gapMs: 0,
    returnMs: limits.returnMs,
    wasBehind: false,
    asksAnyone: line.length === 0,
    trial: undefined,
    edgeBest: 0,
    wasAtEdge: false,
    trialPauseMs: limits.trialPauseMs,
    noTrialUntil: 0,
    slowTimes: 0,
  }
}

/** How long nothing has come of the stripe from who is asked now. */
export function starvedMs({ progressAt, levelSince }: Stripe, now: number): number {
  return now - Math.max(progressAt, levelSince)
}
