import { expect, test } from 'vitest'
import { estimate } from './rollout-estimate.ts'

const past = (seconds: number, deployingSeconds: number, isSameImage: boolean) => ({
  seconds,
  deployingSeconds,
  isSameImage,
  storedBytes: 1000,
})
const whole = { waves: [10], concurrency: undefined }

test('with nothing to go by, it says so and names no time', () => {
  expect(estimate([], 5000, whole)).toEqual({ basis: expect.stringMatching(/^unknown/) })
})

test('the same image is judged by its own past', () => {
  const all = [past(100, 10, true), past(200, 10, true), past(900, 10, true), past(1, 1, false)]
  expect(estimate(all, 5000, whole)).toEqual({
    hostSeconds: 200,
    seconds: 200,
    basis: expect.stringMatching(/3 deployments.*slowest.*900 s/),
  })
})

test('an image that was never deployed is judged by the rates of others', () => {
  // 60 s beside the transfer, and 100 bytes/s.
  expect(estimate([past(70, 10, false)], 5000, whole)).toMatchObject({ hostSeconds: 110, seconds: 110 })
})

test('waves and places come after one another', () => {
  const all = [past(100, 10, true)]
  expect(estimate(all, 5000, { waves: [1, 10, 5], concurrency: undefined }).seconds).toBe(300)
  expect(estimate(all, 5000, { waves: [1, 10, 5], concurrency: 4 }).seconds).toBe(100 * (1 + 3 + 2))
})
