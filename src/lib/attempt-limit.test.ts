import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AttemptLimit, senderOf } from './attempt-limit.ts'

test('after a burst of wrong attempts a key waits, and one more is let through each interval', () => {
  const limit = new AttemptLimit({ burst: 3, everyMs: 1000 })
  for (let i = 0; i < 3; i += 1) {
    expect(limit.waitMs('a', 0)).toBe(0)
    limit.wrong('a', 0)
  }
  expect(limit.waitMs('a', 0)).toBe(1000)
  expect(limit.waitMs('b', 0)).toBe(0)
  expect(limit.waitMs('a', 1000)).toBe(0)
  limit.wrong('a', 1000)
  expect(limit.waitMs('a', 1000)).toBe(1000)
  expect(limit.waitMs('a', 10_000)).toBe(0)
})

test('whatever attempts come when, no more get through than the burst and one an interval', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 }), (pauses) => {
      const limit = new AttemptLimit({ burst: 5, everyMs: 1000 })
      let [now, passed] = [0, 0]
      for (const pause of pauses) {
        now += pause
        if (limit.waitMs('a', now) > 0) continue
        passed += 1
        limit.wrong('a', now)
      }
      expect(passed).toBeLessThanOrEqual(5 + now / 1000)
    }),
  )
})

test('an attempt that turned out right is not held against a key', () => {
  const limit = new AttemptLimit({ burst: 2, everyMs: 1000 })
  for (let i = 0; i < 10; i += 1) {
    expect(limit.waitMs('a', 0)).toBe(0)
    limit.wrong('a', 0)
    limit.right('a')
  }
})

test('a hundred thousand addresses are counted in bounded memory', () => {
  const limit = new AttemptLimit({ burst: 3, everyMs: 1000, keysMax: 1000 })
  for (let i = 0; i < 100_000; i += 1) limit.wrong(`address ${i}`, i)
  expect(limit.size).toBeLessThanOrEqual(1000)
})

test('who owns an IPv6 network is one sender', () => {
  expect(senderOf('192.0.2.7')).toBe('192.0.2.7')
  expect(senderOf('2001:db8:1:2::7')).toBe(senderOf('2001:db8:1:2:ffff::8'))
  expect(senderOf('2001:db8:1:2::7')).not.toBe(senderOf('2001:db8:1:3::7'))
  expect(senderOf('fe80::1%eth0')).toBe(senderOf('fe80::2'))
})
