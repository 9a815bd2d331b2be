import { expect, onTestFinished, test } from 'vitest'
import { until } from '../lib/until.ts'
import { readPower, switchPower } from './control.ts'
import { type SimEvent, startIpmiSim } from './ipmi-sim.ts'

test('one simulator holds a hundred machines and tells what each was asked for', async () => {
  const heard: SimEvent[] = []
  const names = Array.from({ length: 100 }, (_, i) => `n${i}`)
  const sim = await startIpmiSim({ machines: names.map((name) => ({ name })), onEvent: (event) => heard.push(event) })
  onTestFinished(() => sim.close())
  const some = ['n0', 'n1', 'n50', 'n99']
  await Promise.all(some.map((name) => switchPower(sim.method(name), 'on')))
  expect(names.filter((name) => sim.power(name) === 'on')).toEqual(some)
  await until('all events', () => heard.length === some.length, { timeoutMs: 2_000 })
  expect(heard.map((event) => event.machine).toSorted()).toEqual(some.toSorted())
})

test('a machine can be switched past its controller, be silent and wake again', async () => {
  const sim = await startIpmiSim({ machines: [{ name: 'n01', power: 'on' }] })
  onTestFinished(() => sim.close())
  expect(await readPower(sim.method('n01'))).toBe('on')
  sim.setPower('n01', 'off')
  sim.silence()
  const reading = readPower(sim.method('n01'))
  sim.wake()
  expect(await reading).toBe('off')
})

test('closing twice is closing once', async () => {
  const sim = await startIpmiSim({ machines: [{ name: 'n01' }] })
  await sim.close()
  await sim.close()
})
