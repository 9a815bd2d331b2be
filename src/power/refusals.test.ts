import { expect, onTestFinished, test, vi } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { forgetRefusal, heedRefusal, rememberRefusal } from './refusals.ts'

const method = { driver: 'ipmi', address: '10.0.0.1', username: 'u', password: new Secret('p'), options: {} }

test('a refused login is remembered for a quarter of an hour, for that login only', () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  onTestFinished(() => void vi.useRealTimers())
  rememberRefusal(method, new Failure('bmc-refused', 'controller 10.0.0.1 refused', { at: 'password' }))
  expect(() => heedRefusal(method)).toThrow(expect.objectContaining({ code: 'bmc-refused', at: 'password' }))
  expect(() => heedRefusal({ ...method, options: { timeout: '9' } })).toThrow(/not sent again for 15 min/)
  for (const other of [{ address: '10.0.0.2' }, { username: 'v' }, { password: new Secret('q') }]) {
    heedRefusal({ ...method, ...other })
  }
  vi.advanceTimersByTime(14.5 * 60_000)
  expect(() => heedRefusal(method)).toThrow(/not sent again for 1 min/)
  vi.advanceTimersByTime(30_000)
  heedRefusal(method)
})

test('a refusal that is forgotten is not heeded', () => {
  rememberRefusal(method, new Failure('bmc-refused', 'controller 10.0.0.1 refused', { at: 'password' }))
  forgetRefusal(method)
  heedRefusal(method)
})
