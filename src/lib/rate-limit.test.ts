import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { TokenBucket } from './rate-limit.ts'

// The clock is the machine's edge: with a faked one the tests say exactly when bytes may pass.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** Takes `bytes` and notes in `passed` when they passed. */
function taker(bucket: TokenBucket) {
  const passed: [string, number][] = []
  const take = (name: string, bytes: number, signal?: AbortSignal) =>
    bucket.take(bytes, signal).then(() => passed.push([name, Math.round(performance.now())]))
  return { passed, take }
}

test('a burst passes at once, the rest at the rate', async () => {
  const start = Math.round(performance.now())
  const { passed, take } = taker(new TokenBucket({ bytesPerSecond: 1000, burstBytes: 100 }))
  const all = [take('a', 60), take('b', 40), take('c', 50), take('d', 100)]
  await vi.advanceTimersByTimeAsync(1000)
  await Promise.all(all)
  expect(passed.map(([name, at]) => [name, at - start])).toEqual([
    ['a', 0],
    ['b', 0],
    ['c', 50],
    ['d', 150],
  ])
})

test('who asks for little does not overtake who asks for much', async () => {
  const { passed, take } = taker(new TokenBucket({ bytesPerSecond: 1000, burstBytes: 100 }))
  void take('first', 100)
  void take('much', 100)
  void take('little', 1)
  await vi.advanceTimersByTimeAsync(1000)
  expect(passed.map(([name]) => name)).toEqual(['first', 'much', 'little'])
})

test('more than a burst passes, and those behind wait for it', async () => {
  const start = Math.round(performance.now())
  const { passed, take } = taker(new TokenBucket({ bytesPerSecond: 1000, burstBytes: 100 }))
  void take('huge', 1100)
  void take('next', 100)
  await vi.advanceTimersByTimeAsync(5000)
  expect(passed.map(([name, at]) => [name, at - start])).toEqual([
    ['huge', 0],
    ['next', 1100],
  ])
})

test('the long-run rate holds whatever the sizes', async () => {
  const bucket = new TokenBucket({ bytesPerSecond: 10_000, burstBytes: 500 })
  let bytes = 0
  const run = async (size: number) => {
    for (;;) {
      await bucket.take(size)
      bytes += size
    }
  }
  for (const size of [1, 16, 300, 900]) void run(size)
  await vi.advanceTimersByTimeAsync(20_000)
  expect(bytes).toBeGreaterThan(195_000)
  expect(bytes).toBeLessThanOrEqual(200_000 + 500 + 900)
})

test('an abort takes the waiting one out and nothing from the others', async () => {
  const start = Math.round(performance.now())
  const { passed, take } = taker(new TokenBucket({ bytesPerSecond: 1000, burstBytes: 100 }))
  const stop = new AbortController()
  void take('a', 100)
  const gone = take('gone', 100, stop.signal)
  void take('b', 100)
  const refused = expect(gone).rejects.toThrow('enough')
  stop.abort(new Error('enough'))
  await refused
  await vi.advanceTimersByTimeAsync(1000)
  expect(passed.map(([name, at]) => [name, at - start])).toEqual([
    ['a', 0],
    ['b', 100],
  ])
  await expect(take('late', 1, stop.signal)).rejects.toThrow('enough')
})

test('a new rate counts for who waits already', async () => {
  const start = Math.round(performance.now())
  const bucket = new TokenBucket({ bytesPerSecond: 1, burstBytes: 100 })
  const { passed, take } = taker(bucket)
  void take('a', 100)
  void take('b', 100)
  await vi.advanceTimersByTimeAsync(10)
  bucket.setRate(10_000)
  await vi.advanceTimersByTimeAsync(100)
  expect(passed.map(([name, at]) => [name, at - start])).toEqual([
    ['a', 0],
    ['b', 20],
  ])
})

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('a rate of %d is refused', (bytesPerSecond) => {
  expect(() => new TokenBucket({ bytesPerSecond, burstBytes: 1 })).toThrow(RangeError)
})
