import { expect, test } from 'vitest'
import { steadyClock } from './steady-clock.ts'

/** A clock whose time of day and whose passing time the test moves. */
function clocks() {
  const at = { wall: 1_000_000, monotonic: 50 }
  const now = steadyClock({ wall: () => at.wall, monotonic: () => at.monotonic })
  const pass = (ms: number): number => {
    at.wall += ms
    at.monotonic += ms
    return now()
  }
  return { at, now, pass }
}

test('it follows the time of day, small corrections included', () => {
  const { at, now, pass } = clocks()
  expect(now()).toBe(1_000_000)
  expect(pass(500)).toBe(1_000_500)
  at.wall += 200
  expect(pass(500)).toBe(1_001_200)
})

test.each([3, -3])('a clock that is set by %i hours makes no minute longer than two or shorter than half', (hours) => {
  const { at, now, pass } = clocks()
  now()
  at.wall += hours * 3_600_000
  let before = now()
  for (let minute = 0; minute < 600; minute++) {
    const shown = pass(60_000)
    expect(shown - before).toBeGreaterThanOrEqual(30_000)
    expect(shown - before).toBeLessThanOrEqual(90_000)
    before = shown
  }
  // After six hours, of which half goes into coming round, it shows the time of day again.
  expect(before).toBe(at.wall)
})
