import { expect, test } from 'vitest'
import { isTooOld, oldestAgent } from './agent-version.ts'

test('an agent is too old when it is older than the oldest that is understood, or says nothing that can be read', () => {
  expect(['0.0.9', '0', 'nightly', ''].map(isTooOld)).toEqual([true, true, true, true])
  expect([oldestAgent, '1', '0.1.1', '0.2', 'v10.0.0', '0.1.0-test+7'].map(isTooOld)).toEqual(Array(6).fill(false))
})
