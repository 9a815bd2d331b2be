import fc from 'fast-check'
import { expect, test } from 'vitest'
import { beginsAtOnce, defaultPolicy, faultOf, hostsOfShare, inOrder, policyFor, waveAt } from './rollout-policy.ts'

test('a share is at least one host, rounded up, and never more than all', () => {
  expect([hostsOfShare('10%', 72), hostsOfShare('1%', 3), hostsOfShare('100%', 7), hostsOfShare('9', 4)]).toEqual([
    8, 1, 7, 4,
  ])
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 100_000 }), (percent, total) => {
      const hosts = hostsOfShare(`${percent}%`, total)
      expect(hosts).toBeGreaterThanOrEqual(1)
      expect(hosts).toBeLessThanOrEqual(total)
      expect(hosts * 100).toBeGreaterThanOrEqual(percent * total)
    }),
  )
})

test('the canaries are wave 0, and the others fill waves from 1', () => {
  const waves = [0, 1, 2, 3, 4, 5, 6].map((position) => waveAt(position, { canary: 2, wave: 2 }))
  expect(waves).toEqual([0, 0, 1, 1, 2, 2, 3])
  expect(waveAt(5, {})).toBe(1)
})

test('hosts are spread over sites, and in each over racks', () => {
  const at = (name: string, site: string, rack: string) => ({ name, site, rack })
  const hosts = [at('a1', 'a', '1'), at('a2', 'a', '1'), at('a3', 'a', '2'), at('b1', 'b', '1'), at('b2', 'b', '1')]
  expect(inOrder(hosts, 'spread').map(({ name }) => name)).toEqual(['a1', 'b1', 'a3', 'b2', 'a2'])
  expect(inOrder(hosts, 'given')).toEqual(hosts)
})

test('what makes no sense for so many hosts is told with its field', () => {
  expect(faultOf({ quorum: '71' }, 70)).toMatchObject({ field: 'quorum', sentence: expect.stringMatching(/71.*70/) })
  expect(faultOf({ spares: 'hold' }, 70)?.field).toBe('spares')
  expect(faultOf({ atFailures: 'pause' }, 70)?.field).toBe('atFailures')
  expect(faultOf({ startAt: 'tomorrow' }, 70)?.field).toBe('startAt')
  expect(faultOf({ quorum: '64', spares: 'begin', canary: '1', atFailures: 'pause' }, 70)).toBeUndefined()
})

test('only a policy that holds somebody back keeps a rollout from beginning whole', () => {
  expect(beginsAtOnce(defaultPolicy)).toBe(true)
  expect(beginsAtOnce(policyFor({ stopAtFailed: '10%' }, 10))).toBe(true)
  expect(beginsAtOnce(policyFor({ quorum: '9', spares: 'begin' }, 10))).toBe(true)
  for (const order of [
    { canary: '1' },
    { wave: '2' },
    { concurrency: '2' },
    { quorum: '9' },
    { startAt: '2030-01-01' },
  ]) {
    expect(beginsAtOnce(policyFor(order, 10))).toBe(false)
  }
})
