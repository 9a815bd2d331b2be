import { expect, test } from 'vitest'
import { bootAskMs, decideReboot, type RebootFacts } from './reboot.ts'

const on: RebootFacts = {
  state: 'booting',
  target: 'local:2',
  beganAt: 1000,
  deadlineAt: 1000 + bootAskMs,
  record: { askedAt: null },
}

test.each<[string, Partial<RebootFacts>, string]>([
  ['has not begun', { state: 'waiting', beganAt: undefined }, 'switch'],
  ['was being switched when the service stopped', { state: 'switching' }, 'switch'],
  ['has asked since it was being switched', { state: 'switching', record: { askedAt: 1000 } }, 'done'],
  ['had asked before it was switched', { record: { askedAt: 999 } }, 'wait'],
  ['is on and has not asked', {}, 'wait'],
  ['has asked', { record: { askedAt: 2000 } }, 'done'],
  [
    'is to start from its disk, where asking says nothing',
    { state: 'switching', target: 'local', record: { askedAt: 2000 } },
    'switch',
  ],
  ['is pointed elsewhere', { record: undefined }, 'fail'],
])('a machine that %s', (_, change, kind) => {
  expect(decideReboot({ ...on, ...change }, 3000).kind).toBe(kind)
})

test('a machine that asks for nothing fails when its time is over, and not before', () => {
  expect(decideReboot(on, 999 + bootAskMs).kind).toBe('wait')
  expect(decideReboot(on, 1000 + bootAskMs)).toMatchObject({
    kind: 'fail',
    code: 'boot-timeout',
    why: expect.stringContaining('15 min'),
  })
})
