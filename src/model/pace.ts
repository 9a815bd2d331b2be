// How fast a host's transfer goes and when a rollout's will have ended: from the samples that reports leave, smoothed over
// the last seconds. Pure; the numbers are bytes of whatever grows evenly with the work.

export type Sample = { readonly at: number; readonly bytes: number }

/** What is kept of one host's transfer: where it began, and the last seconds. */
export type Track = { readonly began: Sample; readonly recent: readonly Sample[] }

/** The rate is over so long: single frames and the hiccups of a disk do not show, a change does within half of it. */
const windowMs = 30_000

/** Two samples are no closer: thirteen of them are a window. */
const apartMs = 2500

/** Bytes that do not grow for so long stand still: the rate over the window then says nothing of what comes. */
const standstillMs = 10_000

/** A rate from less than this is not to be judged by. */
const judgedMs = 5000

/** The track with one more sample. One that went back, as after a new attempt, begins anew. */
export function lengthen(track: Track | undefined, sample: Sample): Track {
  const last = track?.recent.at(-1)
  if (track === undefined || last === undefined || sample.bytes < last.bytes || sample.at < last.at) {
    return { began: sample, recent: [sample] }
  }
  const before = track.recent.at(-2)
  // The newest is replaced until it is far enough from the one before.
  const kept = before !== undefined && last.at - before.at < apartMs ? track.recent.slice(0, -1) : track.recent
  const first = kept.findLastIndex((one) => one.at <= sample.at - windowMs)
  return { began: track.began, recent: [...kept.slice(Math.max(0, first)), sample] }
}

/** Whether it stood still within the window, or stands still now. */
function stoodStill({ recent }: Track, now: number): boolean {
  let since = recent[0]
  for (const sample of recent) {
    if (since !== undefined && sample.at - since.at >= standstillMs) return true
    if (sample.bytes !== since?.bytes) since = sample
  }
  return since !== undefined && now - since.at >= standstillMs
}

/**
 * Bytes a second over the window, from growth to growth: a slow host grows by a frame every few seconds, and whether the
 * window holds four or five of them must not matter. What has not grown for longer than it usually takes stands still.
 */
export function rateOf(track: Track | undefined, now: number): number {
  const recent = track?.recent ?? []
  const grown = recent.filter((sample, i) => i > 0 && sample.bytes > (recent[i - 1]?.bytes ?? 0))
  const first = grown.length > 1 ? grown[0] : recent[0]
  const last = grown.at(-1)
  if (first === undefined || last === undefined) return 0
  const usualMs = (last.at - first.at) / Math.max(1, grown.length - 1)
  const isLate = now - last.at > Math.max(judgedMs, 2 * usualMs)
  return ((last.bytes - first.bytes) * 1000) / Math.max(1, (isLate ? now : last.at) - first.at)
}

/** The part of one host in the estimate. `waiting`: its transfer has not begun. */
export type Pace = {
  readonly state: 'waiting' | 'running' | 'ended'
  readonly doneBytes: number
  readonly totalBytes: number
  readonly track: Track | undefined
}

export type Estimate = {
  /** When the last of the others will have ended; undefined when nothing is under way, or nothing can be said yet. */
  readonly endAt: number | undefined
  /** When the last straggler will have ended; undefined when there is none, or none of them moves. */
  readonly stragglersEndAt: number | undefined
  /** For each host, in the order given, whether it lags behind the others. */
  readonly isStraggler: readonly boolean[]
}

/** A host at less than this part of the usual rate is a straggler: it is told apart, for it would end long after. */
const stragglerShare = 0.5

/** Beyond this nothing is foretold. */
const horizonMs = 30 * 86_400_000

/**
 * When the transfers will have ended. Each host goes on at its own rate; one that has just begun, or not yet, at the
 * usual one (the median); one that stood still a moment ago with all the others, at the average of its whole transfer.
 * A straggler, which is slower than half of the usual rate, moves only `stragglersEndAt`.
 */
export function estimateEnd(hosts: readonly Pace[], now: number): Estimate {
  const usual = median(hosts.filter((host) => host.state !== 'waiting' && isJudged(host.track)).map(ownRate(now)))
  const ends = hosts.map((host) => {
    if (host.state === 'ended') return { at: undefined, isStraggler: false }
    const own = rateOf(host.track, now)
    const isStraggler = host.state === 'running' && isJudged(host.track) && own < stragglerShare * usual
    const rate = isStraggler ? own : rateToCome(host, usual, now)
    const ms = (Math.max(0, host.totalBytes - host.doneBytes) * 1000) / rate
    return { at: ms <= horizonMs ? now + ms : undefined, isStraggler }
  })
  const others = ends.filter(({ isStraggler }, index) => !isStraggler && hosts[index]?.state !== 'ended')
  // One host of which nothing can be said leaves nothing to say of the end.
  const isKnown = others.length > 0 && others.every(({ at }) => at !== undefined)
  const stragglers = ends.flatMap(({ at, isStraggler }) => (isStraggler && at !== undefined ? [at] : []))
  return {
    endAt: isKnown ? latest(others.map(({ at }) => at ?? now)) : undefined,
    stragglersEndAt: stragglers.length > 0 ? latest(stragglers) : undefined,
    isStraggler: ends.map(({ isStraggler }) => isStraggler),
  }
}

function latest(times: readonly number[]): number {
  return times.reduce((a, b) => Math.max(a, b))
}

/** Of one that has ended what it was at its end. */
function ownRate(now: number): (host: Pace) => number {
  return ({ state, track }) => rateOf(track, state === 'ended' ? (track?.recent.at(-1)?.at ?? now) : now)
}

function isJudged(track: Track | undefined): boolean {
  const last = track?.recent.at(-1)
  return track !== undefined && last !== undefined && last.at - track.began.at >= judgedMs
}

function rateToCome({ state, track }: Pace, usual: number, now: number): number {
  const last = track?.recent.at(-1)
  if (state === 'waiting' || track === undefined || last === undefined) return usual
  if (!isJudged(track) && usual > 0) return usual
  if (!stoodStill(track, now)) return rateOf(track, now)
  return ((last.bytes - track.began.bytes) * 1000) / Math.max(1, now - track.began.at)
}

function median(rates: readonly number[]): number {
  const sorted = [...rates].sort((a, b) => a - b)
  // Of two the faster one, so that of two hosts the slow one is the straggler.
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
