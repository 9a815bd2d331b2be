import fc from 'fast-check'
import { expect, test } from 'vitest'
import { activeStates } from '../model/deployment.ts'
import { parseSetup, type Setup } from '../model/setup.ts'
import { agentSilenceMs, bootStallMs, type DeploymentFacts, decide } from './decide.ts'

const setup = (inside = ''): Setup =>
  parseSetup(`<setup xmlns="urn:hades:setup:1" name="s"><disk><image>a:1</image></disk>${inside}
    <deadlines boot="10min" deploy="1h" observe="10min" attempts="2"/></setup>`)

const start = 1_000_000
const facts = (given: Partial<DeploymentFacts>): DeploymentFacts => ({
  state: 'booting',
  stateSince: start,
  deadlineAt: start + 600_000,
  attempt: 1,
  heardAt: undefined,
  bootSeen: undefined,
  bootedAgainAt: undefined,
  observed: false,
  nudged: false,
  ...given,
})

test('a queued deployment switches its machine on', () => {
  expect(decide(facts({ state: 'queued', attempt: 0 }), setup(), start)).toMatchObject({ kind: 'power' })
})

test('a deployment that was being switched when the service died is switched again', () => {
  expect(decide(facts({ state: 'powering' }), setup(), start)).toMatchObject({ kind: 'power' })
})

test('a machine that asked for nothing until its deadline is power-cycled, then fails with that reason', () => {
  const late = start + 600_000
  expect(decide(facts({}), setup(), late - 1)).toMatchObject({ kind: 'wait' })
  expect(decide(facts({}), setup(), late)).toMatchObject({ kind: 'power' })
  expect(decide(facts({ attempt: 2 }), setup(), late)).toMatchObject({
    kind: 'fail',
    code: 'boot-timeout',
    why: expect.stringMatching(/asked for nothing within 10 min/),
  })
})

test('a machine that stops in the middle of its boot is power-cycled long before the deadline', () => {
  const seen = { at: start + 5000, text: 'asks for lpxelinux.0 by TFTP' }
  expect(decide(facts({ bootSeen: seen }), setup(), seen.at + bootStallMs - 1)).toMatchObject({
    kind: 'wait',
    waitingFor: expect.stringContaining(seen.text),
  })
  expect(decide(facts({ bootSeen: seen }), setup(), seen.at + bootStallMs)).toMatchObject({
    kind: 'power',
    why: expect.stringContaining(seen.text),
  })
})

test('an agent that falls silent gets one more attempt, then the deployment fails', () => {
  const deploying = { state: 'deploying', heardAt: start, deadlineAt: start + 3_600_000 } as const
  expect(decide(facts(deploying), setup(), start + agentSilenceMs - 1)).toMatchObject({ kind: 'wait' })
  expect(decide(facts(deploying), setup(), start + agentSilenceMs)).toMatchObject({ kind: 'power' })
  expect(decide(facts({ ...deploying, attempt: 2 }), setup(), start + agentSilenceMs)).toMatchObject({
    kind: 'fail',
    code: 'agent-silent',
  })
})

test('an agent that reports but never ends fails at its deadline', () => {
  const now = start + 3_600_000
  const deploying = facts({ state: 'deploying', heardAt: now, deadlineAt: now })
  expect(decide(deploying, setup(), now)).toMatchObject({ kind: 'fail', code: 'deadline' })
})

test('a machine that boots again while its agent should work starts over at once', () => {
  const deploying = { state: 'deploying', heardAt: start + 10, deadlineAt: start + 3_600_000 } as const
  expect(decide(facts({ ...deploying, bootedAgainAt: start + 9 }), setup(), start + 20)).toMatchObject({ kind: 'wait' })
  expect(decide(facts({ ...deploying, bootedAgainAt: start + 11 }), setup(), start + 20)).toMatchObject({
    kind: 'boot-again',
  })
})

test('a machine that is to stay in the scout is done with its proof, and the words say so', () => {
  const decision = decide(facts({ state: 'rebooting' }), setup('<finish action="stay"/>'), start)
  expect(decision).toMatchObject({ kind: 'done', why: expect.stringContaining('stays in the scout') })
})

test('done needs the new system to be observed', () => {
  const rebooting = { state: 'rebooting' } as const
  expect(decide(facts(rebooting), setup(), start)).toMatchObject({ kind: 'wait' })
  expect(decide(facts({ ...rebooting, observed: true }), setup(), start)).toEqual({
    kind: 'done',
    why: 'the new system was observed',
  })
  expect(decide(facts(rebooting), setup('<probe><none/></probe>'), start)).toMatchObject({ kind: 'done' })
})

test('a machine that does not show its new system is booted from its disk once, then fails', () => {
  const rebooting = { state: 'rebooting' } as const
  expect(decide(facts(rebooting), setup(), start + 300_000)).toMatchObject({ kind: 'nudge' })
  expect(decide(facts({ ...rebooting, nudged: true }), setup(), start + 300_000)).toMatchObject({ kind: 'wait' })
  expect(decide(facts({ ...rebooting, nudged: true }), setup(), start + 600_000)).toMatchObject({
    kind: 'fail',
    code: 'probe-timeout',
  })
})

test('a machine that is to switch off is never switched on again', () => {
  const off = setup('<finish action="poweroff"/>')
  expect(decide(facts({ state: 'rebooting' }), off, start + 300_000)).toMatchObject({ kind: 'wait' })
})

test('whatever the facts, every state is left once its deadline is past', () => {
  const at = fc.option(fc.integer({ min: start, max: start + 10_000_000 }), { nil: undefined })
  const any = fc.record({
    state: fc.constantFrom(...activeStates),
    stateSince: fc.constant(start),
    deadlineAt: fc.integer({ min: start, max: start + 10_000_000 }),
    attempt: fc.integer({ min: 0, max: 3 }),
    heardAt: at,
    bootSeen: fc.option(fc.record({ at: fc.integer({ min: start, max: start + 10_000_000 }), text: fc.string() }), {
      nil: undefined,
    }),
    bootedAgainAt: at,
    observed: fc.boolean(),
    nudged: fc.boolean(),
  })
  fc.assert(
    fc.property(any, (given) => {
      const decision = decide(given, setup(), given.deadlineAt)
      expect(decision.kind).not.toBe('wait')
      if (decision.kind === 'power' && given.state !== 'queued' && given.state !== 'powering') {
        expect(given.attempt).toBeLessThan(2)
      }
    }),
  )
})
