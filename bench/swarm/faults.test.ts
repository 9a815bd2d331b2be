import { expect, test } from 'vitest'
import { chooseVictims, isDue, parseFault } from './faults.ts'

test('each kind of rule is read', () => {
  expect(parseFault('kill:10%@30%')).toMatchObject({ kind: 'kill', nodes: { share: 0.1 }, at: { share: 0.3 } })
  expect(parseFault('slow:5%@15s:0.1')).toMatchObject({ kind: 'slow', at: { seconds: 15 }, factor: 0.1 })
  expect(parseFault('late:20%@10s')).toMatchObject({ kind: 'late', at: { seconds: 10 } })
  expect(parseFault('corrupt:1@0s')).toMatchObject({ kind: 'corrupt', nodes: { count: 1 }, at: { seconds: 0 } })
  expect(parseFault('delay:10%:50ms')).toMatchObject({ kind: 'delay', delayMs: 50 })
  expect(parseFault('cut:1@20s')).toMatchObject({ kind: 'cut', at: { seconds: 20 } })
})

test.each(['kill', 'kill:0', 'kill:0%', 'kill:101%', 'kill:1.5', 'kill:1@30', 'kill:1:2', 'slow:1@3s', 'slow:1@3s:2'])(
  '%s is refused',
  (text) => {
    expect(() => parseFault(text)).toThrow(text)
  },
)

test.each(['delay:1:50', 'delay:1@3s:50ms', 'late:1@30%', 'melt:1@3s'])('%s is refused as well', (text) => {
  expect(() => parseFault(text)).toThrow('of the form')
})

test('the same seed hits the same nodes, and no node is hit by two rules', () => {
  const faults = ['kill:10%@30%', 'slow:5%@15s:0.1', 'late:20%@10s'].map(parseFault)
  const victims = [...chooseVictims(faults, 20, 7).values()]
  expect(victims).toEqual([...chooseVictims(faults, 20, 7).values()])
  expect(victims.map(({ length }) => length)).toEqual([2, 1, 4])
  expect(new Set(victims.flat()).size).toBe(7)
  expect(victims).not.toEqual([...chooseVictims(faults, 20, 8).values()])
})

test('a small share hits one node at least, and more nodes than there are cannot be hit', () => {
  expect([...chooseVictims([parseFault('slow:5%@1s:0.1')], 4, 1).values()].flat()).toHaveLength(1)
  expect(() => chooseVictims([parseFault('kill:3@1s')], 2, 1)).toThrow('too few nodes')
})

test('a rule is due by the clock or by the progress of the median node', () => {
  expect(isDue({ seconds: 15 }, { seconds: 14.9, medianShare: 1 })).toBe(false)
  expect(isDue({ seconds: 15 }, { seconds: 15, medianShare: 0 })).toBe(true)
  expect(isDue({ share: 0.3 }, { seconds: 99, medianShare: 0.29 })).toBe(false)
  expect(isDue({ share: 0.3 }, { seconds: 0, medianShare: 0.3 })).toBe(true)
})
