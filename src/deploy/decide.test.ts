import fc from 'fast-check'
import { expect, test } from 'vitest'
import { activeStates, deploymentSteps, stateMs } from '../model/deployment.ts'
import { parseSetup, type Setup } from '../model/setup.ts'
import { agentSilenceMs, bootStallMs, type DeploymentFacts, decide } from './decide.ts'

const setup = (inside = ''): Setup =>
  parseSetup(`<setup xmlns="urn:hades:setup:1" name="s"><disk><image>a:1</image></disk>${inside}
    <deadlines boot="10min" deploy="1h" observe="10min" attempts="2"/></setup>`)

const start = 1_000_000
const facts = (given: Partial<DeploymentFacts>): DeploymentFacts => ({
  state: 'booting',
  kind: 'deploy',
  deadlineAt: start + 600_000,
  limitMs: 600_000,
  attempt: 1,
  hasAttemptLeft: true,
  heardAt: undefined,
  bootSeen: undefined,
  bootedAgain: false,
  step: undefined,
  scale: { hosts: 1, bytes: 0, lingerMs: 0 },
  observed: false,
  tries: [],
  methods: 1,
  ...given,
})
const order = { attempt: 1, step: 'power', how: 'hard', at: start } as const

test('a queued deployment begins its first attempt, and fails when its turn never comes', () => {
  expect(decide(facts({ state: 'queued', attempt: 0 }), setup(), start)).toMatchObject({
    kind: 'attempt',
    to: 'powering',
  })
  const late = facts({ state: 'queued', attempt: 0, deadlineAt: start })
  expect(decide(late, setup(), start)).toMatchObject({ kind: 'fail', code: 'deadline' })
})

test('a deployment whose order was cut short by the death of a service gets the next order', () => {
  const rung = { level: 'hard', method: 0, place: 0 } as const
  const powering = facts({ state: 'powering', tries: [{ ...order, rung }] })
  expect(decide(powering, setup(), start)).toMatchObject({ kind: 'order', rung: { level: 'hard', place: 1 } })
})

test('a machine that cannot be switched by its deadline fails with what its controller said last', () => {
  const rung = { level: 'hard', method: 0, place: 0 } as const
  const tries = [{ ...order, rung, outcome: 'no answer from 10.0.0.9', code: 'bmc-unreachable' as const }]
  const late = facts({ state: 'powering', deadlineAt: start, tries })
  expect(decide(late, setup(), start)).toMatchObject({
    kind: 'fail',
    code: 'bmc-unreachable',
    why: expect.stringContaining('no answer from 10.0.0.9'),
  })
})

test('a machine that asked for nothing until its deadline gets another attempt, then fails with that reason', () => {
  const late = start + 600_000
  expect(decide(facts({}), setup(), late - 1)).toMatchObject({ kind: 'wait' })
  expect(decide(facts({}), setup(), late)).toMatchObject({ kind: 'attempt', to: 'powering' })
  expect(decide(facts({ hasAttemptLeft: false }), setup(), late)).toMatchObject({
    kind: 'fail',
    code: 'boot-timeout',
    why: expect.stringMatching(/asked for nothing within 10 min/),
  })
})

test('a machine that stops in the middle of its boot is power-cycled long before the deadline', () => {
  const heardAt = start + 5000
  const seen = { heardAt, bootSeen: 'asks for lpxelinux.0 by TFTP' }
  expect(decide(facts(seen), setup(), heardAt + bootStallMs - 1)).toMatchObject({
    kind: 'wait',
    waitingFor: expect.stringContaining(seen.bootSeen),
  })
  expect(decide(facts(seen), setup(), heardAt + bootStallMs)).toMatchObject({
    kind: 'attempt',
    why: expect.stringContaining(seen.bootSeen),
  })
})

const deploying = { state: 'deploying', heardAt: start, deadlineAt: start + 3_600_000 } as const

test('an agent that falls silent gets one more attempt, then the deployment fails', () => {
  expect(decide(facts(deploying), setup(), start + agentSilenceMs - 1)).toMatchObject({ kind: 'wait' })
  expect(decide(facts(deploying), setup(), start + agentSilenceMs)).toMatchObject({ kind: 'attempt', to: 'powering' })
  const last = facts({ ...deploying, hasAttemptLeft: false })
  expect(decide(last, setup(), start + agentSilenceMs)).toMatchObject({ kind: 'fail', code: 'agent-silent' })
})

test('an agent that reports but never ends fails at its deadline', () => {
  const now = start + 3_600_000
  const late = facts({ ...deploying, heardAt: now, deadlineAt: now })
  expect(decide(late, setup(), now)).toMatchObject({ kind: 'fail', code: 'deadline' })
})

test('a step that does not end is left for another attempt long before the whole is late', () => {
  const step = { name: 'disk', since: start } as const
  const now = start + 30 * 60_000
  expect(decide(facts({ ...deploying, heardAt: now, step }), setup(), now - 1)).toMatchObject({ kind: 'wait' })
  expect(decide(facts({ ...deploying, heardAt: now, step }), setup(), now)).toMatchObject({
    kind: 'attempt',
    to: 'powering',
    why: expect.stringContaining('step disk'),
  })
})

test('a machine that boots again while its agent should work starts over without its power being touched', () => {
  expect(decide(facts({ ...deploying, bootedAgain: true }), setup(), start + 20)).toMatchObject({
    kind: 'attempt',
    to: 'booting',
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
  const nudge = { attempt: 1, step: 'observe', how: 'from its disk', at: start } as const
  const nudged = facts({ ...rebooting, tries: [{ ...nudge, outcome: 'the machine is on' }] })
  expect(decide(facts(rebooting), setup(), start + 300_000)).toMatchObject({ kind: 'nudge' })
  expect(decide(nudged, setup(), start + 300_000)).toMatchObject({ kind: 'wait' })
  expect(decide(nudged, setup(), start + 600_000)).toMatchObject({ kind: 'fail', code: 'probe-timeout' })
  // Whoever died in the middle may have left the machine off.
  expect(decide(facts({ ...rebooting, tries: [nudge] }), setup(), start + 300_000)).toMatchObject({ kind: 'nudge' })
})

test('a machine that is to switch off is never switched on again', () => {
  const off = setup('<finish action="poweroff"/>')
  expect(decide(facts({ state: 'rebooting' }), off, start + 300_000)).toMatchObject({ kind: 'wait' })
})

test('whatever the facts, every state is left once its deadline is past', () => {
  const at = fc.option(fc.integer({ min: start, max: start + 10_000_000 }), { nil: undefined })
  const any = fc.record({
    state: fc.constantFrom(...activeStates),
    kind: fc.constantFrom('deploy', 'capture', 'erase'),
    deadlineAt: fc.integer({ min: start, max: start + 10_000_000 }),
    limitMs: fc.integer({ min: 1, max: 10_000_000 }),
    attempt: fc.integer({ min: 0, max: 3 }),
    hasAttemptLeft: fc.boolean(),
    heardAt: at,
    bootSeen: fc.option(fc.string(), { nil: undefined }),
    bootedAgain: fc.boolean(),
    step: fc.option(fc.record({ name: fc.constantFrom(...deploymentSteps), since: fc.constant(start) }), {
      nil: undefined,
    }),
    scale: fc.record({ hosts: fc.nat(), bytes: fc.nat(), lingerMs: fc.nat() }),
    observed: fc.boolean(),
    tries: fc.constantFrom([], [order]),
    methods: fc.nat({ max: 3 }),
  })
  fc.assert(
    fc.property(any, (given) => {
      const { kind } = decide(given, setup(), given.deadlineAt)
      expect(['wait', 'order']).not.toContain(kind)
      if (kind === 'attempt' && given.state !== 'queued') expect(given.hasAttemptLeft).toBe(true)
    }),
  )
})

test('more hosts have more time, and the word of a setup is exact', () => {
  const given = setup().deadlines
  const scale = (hosts: number) => ({ hosts, bytes: 0, lingerMs: 0 })
  expect(stateMs('powering', scale(100), given)).toBe(300_000 + 100 * 5000)
  expect(stateMs('booting', scale(100), given)).toBe(600_000)
})
