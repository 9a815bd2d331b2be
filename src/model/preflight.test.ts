import { expect, test } from 'vitest'
import { couldNotLook, judgeOffers, worstOf } from './preflight.ts'

const ours = '10.77.0.1'
const rogue = { server: '10.77.0.2', address: '10.77.0.200', nextServer: '10.77.0.2' }

test('where this service gives the addresses, any other server is a failure that is named with its offer', () => {
  expect(judgeOffers([], { ours, dhcp: 'full' }).outcome).toBe('ok')
  const judged = judgeOffers([rogue, rogue], { ours, dhcp: 'full' })
  expect(judged).toMatchObject({ outcome: 'failure', says: '10.77.0.2 offers 10.77.0.200' })
})

test('where it does not, one server must send machines here, and two are too many', () => {
  expect(judgeOffers([], { ours, dhcp: 'off' }).outcome).toBe('warning')
  expect(judgeOffers([rogue], { ours, dhcp: 'off' }).outcome).toBe('warning')
  expect(judgeOffers([{ ...rogue, nextServer: ours }], { ours, dhcp: 'off' }).outcome).toBe('ok')
  expect(judgeOffers([rogue, { ...rogue, server: '10.77.0.3' }], { ours, dhcp: 'off' }).outcome).toBe('failure')
})

test('the worst check is the outcome of all, and what could not be looked at is not well', () => {
  const ok = { name: 'a', outcome: 'ok', says: '' } as const
  expect(worstOf([ok])).toBe('ok')
  expect(worstOf([ok, couldNotLook('b', 'no rights', 'be root')])).toBe('warning')
  expect(worstOf([couldNotLook('b', '', ''), { ...ok, outcome: 'failure' }])).toBe('failure')
})
