import { expect, test } from 'vitest'
import { engineAfter, loaderOf, nextRung, ordersMax, type Try } from './tries.ts'

const of = { attempt: 1, kind: 'deploy', methods: 1 }

/** The orders that follow one another when each fails with what `fails` says of it. */
function orders(given: typeof of, count: number, fails: (one: Try) => Partial<Try> = () => ({})): string[] {
  const tries: Try[] = []
  for (let i = 0; i < count; i++) {
    const rung = nextRung(tries, given)
    if (!rung) break
    const one: Try = { attempt: given.attempt, step: 'power', how: '', at: 0, rung }
    tries.push({ ...one, ...fails(one) })
  }
  return tries.map(({ rung }) => `${rung?.level} ${(rung?.method ?? 0) + 1}`)
}

test('a machine is switched hard, hard, cold, then by its next method, then from the start', () => {
  expect(orders({ ...of, methods: 2 }, 7)).toEqual([
    'hard 1',
    'hard 1',
    'cold 1',
    'hard 2',
    'hard 2',
    'cold 2',
    'hard 1',
  ])
})

test('a system that is to be captured is given the time to shut down, once', () => {
  expect(orders({ ...of, kind: 'capture' }, 2)).toEqual(['soft 1', 'hard 1'])
})

test('a later attempt begins cold, and by the next method', () => {
  expect(orders({ ...of, attempt: 2, methods: 2 }, 1)).toEqual(['cold 2'])
})

test('a method that refused is not asked again, and when all have refused nothing is left', () => {
  const refuses = (method: number) => (one: Try) => (one.rung?.method === method ? ({ final: true } as const) : {})
  expect(orders({ ...of, methods: 2 }, 3, refuses(0))).toEqual(['hard 1', 'hard 2', 'hard 2'])
  expect(orders({ ...of, methods: 2 }, 9, () => ({ final: true }))).toEqual(['hard 1', 'hard 2'])
})

test('the orders of one attempt are bounded', () => {
  expect(orders(of, 1000)).toHaveLength(ordersMax)
})

test('the third attempt of a machine that was heard of takes another loader', () => {
  expect([1, 2, 3, 4, 5].map((attempt) => loaderOf(attempt, 'auto', true))).toEqual([
    undefined,
    undefined,
    'ipxe',
    undefined,
    'ipxe',
  ])
  expect(loaderOf(3, 'ipxe', true)).toBe('auto')
  expect(loaderOf(3, 'auto', false)).toBeUndefined()
})

test('an attempt after one that ended in its transfer fetches from the origin alone', () => {
  expect(engineAfter('transfer', null)).toBe('http')
  expect(engineAfter('disk', null)).toBeUndefined()
  expect(engineAfter('disk', 'http')).toBe('http')
})
