// Generated histories on a real database with the real engine and the real Service Port: rollouts, cancels, machines that do
// anything, services that are killed at any statement, clocks that are set. Whatever happens, each host ends in time, nothing
// runs twice, boot records are back and no claim is left. HISTORIES=10000 runs that many, of another seed each time; SEED names one,
// REPLAY one history of it. docs/decisions/0013-histories.md tells which mistakes it was seen to find.
import { randomInt } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { clear, type Ground, HistoryWorld, historySetup } from '../../test/histories/history-world.ts'
import { agentBehaviours, type Behaviour, bmcBehaviours, bootBehaviours } from '../../test/histories/machine.ts'
import { controlHandlers } from '../operations/control.ts'
import { nameImage, openTestWorld, type TestWorld } from '../operations/testing.ts'

const isLong = process.env.HISTORIES !== undefined
const histories = Number(process.env.HISTORIES ?? (inject('mariadbSocket') === undefined ? 300 : 40))
/** The same histories each time, unless more are asked for: what fails must be what was changed. */
const seed = Number(process.env.SEED ?? (isLong ? randomInt(2 ** 31) : 1))
/** What a failure has printed: `path`, or `path/replayPath`. */
const [path, replayPath] = process.env.REPLAY?.split('/') ?? []
/** Each takes about a second where the machine is busy. */
const timeoutMs = 60_000 + histories * 4000
/** A long run says so often how far it is. */
const tellEvery = 250
/**
 * Played beside each other by a long run, each on a database of its own and from the next seed: a history waits most of its
 * time for MariaDB.
 */
const lanes = isLong && process.env.REPLAY === undefined && inject('mariadbSocket') !== undefined ? 4 : 1

const names = ['h1', 'h2', 'h3'] as const

const worlds: TestWorld[] = []
const grounds: Ground[] = []

beforeAll(async () => {
  for (let lane = 0; lane < lanes; lane += 1) {
    const world = await openTestWorld()
    worlds.push(world)
    grounds.push(await makeGround(world))
  }
}, timeoutMs)
afterAll(async () => {
  for (const world of worlds) await world.close()
})

async function makeGround(world: TestWorld): Promise<Ground> {
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
  return { db: world.db, world, setupId: setup.id, hosts: withMacs }
}

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
    { weight: 1, arbitrary: passing(20, 60) },
    { weight: 1, arbitrary: fc.constant(command('cancel', (real) => real.cancel())) },
    { weight: 1, arbitrary: fc.constant(command('cancel and begin again', (real) => real.beginAgain(names))) },
  ),
  which.map((name) => command(`start ${name}`, (real) => real.start(name))),
  fc
    .tuple(which, fc.nat({ max: 60 }))
    .map(([name, n]) => command(`kill ${name} at boundary ${n}`, (real) => real.processes.get(name)?.killIn(n))),
  fc
    .tuple(which, fc.integer({ min: 1, max: 60 }))
    .map(([name, n]) => command(`${name} has no database for ${n}`, (real) => real.processes.get(name)?.awayFor(n))),
  fc
    .tuple(which, fc.constantFrom(20, 60, 130))
    .map(([name, s]) => command(`${name} stands still for ${s} s`, (real) => real.standStill(name, s * 1000))),
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
    const startedAt = performance.now()
    let played = 0
    const tell = (): void => {
      const seconds = Math.round((performance.now() - startedAt) / 1000)
      const seeds = lanes === 1 ? `seed ${seed}` : `seeds ${seed} to ${seed + lanes - 1}`
      if (isLong) console.info(`${seeds}: ${played} histories in ${seconds} s`)
    }
    tell()
    const play = (ground: Ground, lane: number): Promise<void> =>
      fc.assert(
        fc.asyncProperty(
          fc.array(behaviour, { minLength: names.length, maxLength: names.length }),
          fc.commands(commands, { maxCommands: 30, ...(replayPath === undefined ? {} : { replayPath }) }),
          async (behaviours, generated) => {
            await clear(ground)
            const real = new HistoryWorld(ground, behaviours)
            real.start('a')
            real.start('b')
            await real.begin(names)
            await fc.asyncModelRun(() => ({ model: {}, real }), generated)
            expect(await real.drain()).toEqual([])
            played += 1
            if (played % tellEvery === 0) tell()
          },
        ),
        {
          numRuns: Math.ceil(histories / lanes),
          seed: seed + lane,
          ...(path === undefined ? {} : { path, endOnFailure: true }),
        },
      )
    await Promise.all(grounds.map(play))
  },
  timeoutMs,
)
