// Generated histories on a real database with the real engine and the real Service Port: rollouts, cancels, machines that do
// anything, services that are killed at any statement, clocks that are set. Whatever happens, each host ends in time, nothing
// runs twice, boot records are back and no claim is left. HISTORIES=10000 runs that many; docs/decisions/0013-histories.md tells which
// mistakes it was seen to find.
import fc from 'fast-check'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { clear, type Ground, HistoryWorld, historySetup } from '../../test/histories/history-world.ts'
import { agentBehaviours, type Behaviour, bmcBehaviours, bootBehaviours } from '../../test/histories/machine.ts'
import { controlHandlers } from '../operations/control.ts'
import { nameImage, openTestWorld, type TestWorld } from '../operations/testing.ts'

const histories = Number(process.env.HISTORIES ?? (inject('mariadbSocket') === undefined ? 300 : 40))
const seed = process.env.SEED ?? (process.env.HISTORIES === undefined ? '1' : undefined)
/** Each takes well under a second where the machine is not busy. */
const timeoutMs = 60_000 + histories * 2000

const names = ['h1', 'h2', 'h3'] as const

let world: TestWorld
let ground: Ground

beforeAll(async () => {
  world = await openTestWorld()
  const admin = { kind: 'user', name: 'admin', role: 'admin', address: 'test' } as const
  const control = controlHandlers(world)
  await nameImage(world, 'debian', '12')
  await control.putSetup({ xml: historySetup }, admin)
  const manual = { driver: 'manual', options: [] }
  for (const [index, name] of names.entries()) {
    const interfaces = [{ mac: `52:54:00:00:00:0${index}`, ip: `10.77.0.1${index}` }]
    // The second host has two power methods.
    const powerMethods = index === 1 ? [manual, manual] : [manual]
    await control.addHost({ name, interfaces, powerMethods }, admin)
  }
  const hosts = await world.db.selectFrom('hosts').select(['id', 'name']).orderBy('name').execute()
  const setup = await world.db.selectFrom('setups').select('id').where('name', '=', 'history').executeTakeFirstOrThrow()
  const withMacs = hosts.map((host, index) => ({ ...host, mac: `52:54:00:00:00:0${index}` }))
  ground = { db: world.db, world, setupId: setup.id, hosts: withMacs }
})
afterAll(async () => {
  await world.close()
})

type Command = fc.AsyncCommand<object, HistoryWorld>

/** A command: what it does, and its words in a report of a failure. */
function command(words: string, act: (world: HistoryWorld) => Promise<void> | void): Command {
  return {
    check: () => true,
    async run(_model, real) {
      await act(real)
      expect(await real.laws()).toEqual([])
    },
    toString: () => words,
  }
}

const which = fc.constantFrom('a' as const, 'b' as const)
const hours = fc.constantFrom(-30, -3, 3, 30)
const passing = (...seconds: number[]) =>
  fc.constantFrom(...seconds).map((s) => command(`${s} s pass`, (real) => real.pass(s * 1000)))
const commands = [
  passing(5, 20, 60),
  passing(20, 60, 130),
  passing(60, 130, 400),
  fc
    .subarray([...names], { minLength: 1 })
    .map((some) => command(`rollout of ${some.join()}`, (real) => real.begin(some))),
  fc.oneof(
    { weight: 3, arbitrary: passing(20, 60) },
    { weight: 1, arbitrary: fc.constant(command('cancel', (real) => real.cancel())) },
  ),
  which.map((name) => command(`start ${name}`, (real) => real.start(name))),
  fc
    .tuple(which, fc.nat({ max: 60 }))
    .map(([name, n]) => command(`kill ${name} at boundary ${n}`, (real) => real.processes.get(name)?.killIn(n))),
  fc
    .tuple(which, fc.integer({ min: 1, max: 60 }))
    .map(([name, n]) => command(`${name} has no database for ${n}`, (real) => real.processes.get(name)?.awayFor(n))),
  which.map((name) =>
    command(`${name} stands still`, (real) => {
      const process = real.processes.get(name)
      if (process) process.isPaused = true
    }),
  ),
  fc.tuple(which, hours).map(([name, h]) =>
    command(`the clock of ${name} is set by ${h} h`, (real) => {
      const process = real.processes.get(name)
      if (process) process.skewMs += h * 3_600_000
    }),
  ),
]

const often = <T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) })
const behaviour: fc.Arbitrary<Behaviour> = fc.record({
  bmc: fc.array(often('obeys', ...bmcBehaviours), { minLength: 1, maxLength: 4 }),
  boot: fc.array(often('boots', ...bootBehaviours), { minLength: 1, maxLength: 3 }),
  agent: fc.array(often('good', ...agentBehaviours), { minLength: 1, maxLength: 3 }),
  delayMs: fc.constantFrom(1000, 15_000, 50_000),
})

test(
  `${histories} histories with kills at every statement: each host ends in time, and nothing runs twice`,
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(behaviour, { minLength: names.length, maxLength: names.length }),
        fc.commands(commands, { maxCommands: 30 }),
        async (behaviours, generated) => {
          await clear(ground)
          const real = new HistoryWorld(ground, behaviours)
          real.start('a')
          real.start('b')
          await real.begin(names)
          await fc.asyncModelRun(() => ({ model: {}, real }), generated)
          expect(await real.drain()).toEqual([])
        },
      ),
      // The same ones each time, unless more are asked for: what fails must be what was changed.
      { numRuns: histories, ...(seed === undefined ? {} : { seed: Number(seed) }) },
    )
  },
  timeoutMs,
)
