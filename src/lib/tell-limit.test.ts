import { expect, test } from 'vitest'
import { tellLimit } from './tell-limit.ts'

test('a burst gets through, the rest is counted and told with the next', () => {
  const mayTell = tellLimit({ burst: 2, perSecond: 0 })
  expect([mayTell(), mayTell(), mayTell(), mayTell()]).toEqual([0, 0, undefined, undefined])
  const quick = tellLimit({ burst: 1, perSecond: 1e9 })
  expect([quick(), quick()]).toEqual([0, 0])
})
