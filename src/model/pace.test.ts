import { expect, test } from 'vitest'
import { type Estimate, estimateEnd, lengthen, type Pace, rateOf, type Track } from './pace.ts'

const total = 1_000_000_000

/** Bytes that a host has at a moment, in seconds since the rollout began; undefined before its transfer. */
type Curve = (second: number) => number | undefined

/** A host at so many bytes a second; the phases before the last one last `seconds`. */
function curve(...phases: readonly { rate: number; seconds?: number }[]): Curve {
  return (second) => {
    let bytes = 0
    let from = 0
    for (const { rate, seconds = Number.POSITIVE_INFINITY } of phases) {
      bytes += rate * Math.max(0, Math.min(seconds, second - from))
      from += seconds
      if (second <= from) break
    }
    return Math.min(total, bytes)
  }
}

const later = (seconds: number, of: Curve): Curve => {
  return (second) => (second < seconds ? undefined : of(second - seconds))
}

/** Reports come once a second and a bit, whole frames at a time, and are a little late: as agents do it. */
function inFrames(of: Curve, frameBytes = 4_000_000): Curve {
  return (second) => {
    const bytes = of(second)
    if (bytes === undefined || bytes >= total) return bytes
    return Math.floor(bytes / frameBytes) * frameBytes
  }
}

type Moment = Estimate & { readonly second: number }

/** What is estimated each second of a rollout, until all hosts have ended. */
function replay(curves: readonly Curve[], secondsMax = 5000): { moments: Moment[]; ends: number[] } {
  const tracks: (Track | undefined)[] = curves.map(() => undefined)
  const ends: number[] = curves.map(() => Number.POSITIVE_INFINITY)
  const moments: Moment[] = []
  for (let second = 0; second <= secondsMax && ends.some((end) => end === Number.POSITIVE_INFINITY); second += 1) {
    const paces = curves.map((of, i): Pace => {
      const doneBytes = of(second)
      if (doneBytes === undefined) return { state: 'waiting', doneBytes: 0, totalBytes: total, track: undefined }
      if (ends[i] === Number.POSITIVE_INFINITY) {
        tracks[i] = lengthen(tracks[i], { at: second * 1000 - (i % 5) * 100, bytes: doneBytes })
        if (doneBytes >= total) ends[i] = second
      }
      return { state: doneBytes >= total ? 'ended' : 'running', doneBytes, totalBytes: total, track: tracks[i] }
    })
    moments.push({ second, ...estimateEnd(paces, second * 1000) })
  }
  return { moments, ends }
}

/** The largest part of the whole by which an estimate was wrong, between two parts of the way to `end`. */
function worstError(moments: readonly Moment[], end: number, from = 0.25, to = 0.99): number {
  const errors = moments
    .filter(({ second }) => second >= from * end && second <= to * end)
    .map(({ endAt }) => (endAt === undefined ? Number.POSITIVE_INFINITY : Math.abs(endAt / 1000 - end) / end))
  return Math.max(...errors)
}

const steady = curve({ rate: 5_000_000 })

test.each<[string, readonly Curve[]]>([
  ['one host', [inFrames(steady)]],
  ['sixteen alike', Array.from({ length: 16 }, () => inFrames(steady))],
  ['hosts between 4 and 6 MB/s', Array.from({ length: 9 }, (_, i) => inFrames(curve({ rate: 4e6 + i * 250_000 })))],
  ['slow ones, a frame every ten seconds', Array.from({ length: 4 }, () => inFrames(curve({ rate: 400_000 })))],
  ['a ramp of twenty seconds', [inFrames(curve({ rate: 1e6, seconds: 20 }, { rate: 5e6 }))]],
  ['hosts that begin up to half a minute later', [0, 10, 20, 30].map((s) => later(s, inFrames(steady)))],
])('at a constant rate the estimate holds from a quarter of the way on: %s', (_what, curves) => {
  const { moments, ends } = replay(curves)
  expect(worstError(moments, Math.max(...ends))).toBeLessThan(0.1)
})

test('one slow host does not move the end of the others, and is told apart with an end of its own', () => {
  const { moments, ends } = replay([
    ...Array.from({ length: 7 }, () => inFrames(steady)),
    inFrames(curve({ rate: 5e5 })),
  ])
  const others = Math.max(...ends.slice(0, -1))
  expect(worstError(moments, others)).toBeLessThan(0.1)
  const during = moments.filter(({ second }) => second > 0.25 * others)
  expect(
    during.slice(0, -1).every(({ isStraggler }) => isStraggler.join() === [...Array(7).fill(false), true].join()),
  ).toBe(true)
  const last = ends.at(-1) ?? 0
  const errors = during.slice(0, -1).map(({ stragglersEndAt = 0 }) => Math.abs(stragglersEndAt / 1000 - last) / last)
  expect(Math.max(...errors)).toBeLessThan(0.15)
})

test('of two hosts the one at a tenth of the rate is the straggler', () => {
  const { moments } = replay([inFrames(steady), inFrames(curve({ rate: 5e5 }))])
  expect(moments[100]?.isStraggler).toEqual([false, true])
})

test('a host that joins late moves the end by what it still has to fetch', () => {
  const { moments, ends } = replay([...Array.from({ length: 4 }, () => inFrames(steady)), later(100, inFrames(steady))])
  const end = Math.max(...ends)
  // While it is waited for, it could begin at any moment: from then on the estimate holds.
  expect(worstError(moments, end, 0.4)).toBeLessThan(0.1)
  expect(moments.every(({ isStraggler }) => !isStraggler.at(-1))).toBe(true)
})

test('a standstill of all moves the end by little more than its own length', () => {
  const stall = curve({ rate: 5e6, seconds: 80 }, { rate: 0, seconds: 25 }, { rate: 5e6 })
  const { moments, ends } = replay(Array.from({ length: 4 }, () => inFrames(stall)))
  // Before the standstill nobody can know of it: from 80 s of 225 s on.
  expect(worstError(moments, Math.max(...ends), 0.48)).toBeLessThan(0.25)
  expect(worstError(moments, Math.max(...ends), 0.7)).toBeLessThan(0.1)
})

test('half the rate for all is the new end within half a minute', () => {
  const slower = curve({ rate: 5e6, seconds: 60 }, { rate: 2.5e6 })
  const { moments, ends } = replay(Array.from({ length: 4 }, () => inFrames(slower)))
  expect(worstError(moments, Math.max(...ends), 0.27)).toBeLessThan(0.12)
})

test('whatever the samples are, the estimate is not before now and no NaN', () => {
  // A generator of its own, so that a failure can be repeated (numerical recipes' constants).
  let seed = 1
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return seed % below
  }
  const states = ['waiting', 'running', 'ended'] as const
  for (let world = 0; world < 500; world += 1) {
    let now = random(1000)
    const paces = Array.from({ length: 1 + random(6) }, (): Pace => {
      let track: Track | undefined
      for (let i = random(40); i > 0; i -= 1) {
        now += random(4000)
        // Backwards in time or bytes, too much, nothing: an agent may be wrong.
        track = lengthen(track, { at: now - random(3) * 1000, bytes: random(5) * random(total) })
      }
      return { state: states[random(3)] ?? 'waiting', doneBytes: random(2 * total), totalBytes: random(total), track }
    })
    const { endAt = now, stragglersEndAt = now } = estimateEnd(paces, now)
    expect(endAt).toBeGreaterThanOrEqual(now)
    expect(stragglersEndAt).toBeGreaterThanOrEqual(now)
    for (const { track } of paces) expect(rateOf(track, now)).toBeGreaterThanOrEqual(0)
    expect(paces.every(({ track }) => (track?.recent.length ?? 0) <= 16)).toBe(true)
  }
})

test('before anything has moved there is no estimate', () => {
  const waiting: Pace = { state: 'waiting', doneBytes: 0, totalBytes: total, track: undefined }
  expect(estimateEnd([], 0)).toEqual({ endAt: undefined, stragglersEndAt: undefined, isStraggler: [] })
  expect(estimateEnd([waiting], 0).endAt).toBeUndefined()
  const begun: Pace = { ...waiting, state: 'running', track: lengthen(undefined, { at: 0, bytes: 0 }) }
  expect(estimateEnd([begun], 1000).endAt).toBeUndefined()
})
