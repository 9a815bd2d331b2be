// The conductor with its real neighbours: rows in SQLite, the engine, the handlers of the ports. Only the machines are
// played: their power method is a person's hand, and their agents call the Service Port as the scout's do.
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { inProcess } from '../client/client.ts'
import type { Caller } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import type { RolloutView } from '../contract/types.ts'
import { bootByMac } from '../db/boot.ts'
import { findDeployment, findRollout } from '../db/deployments.ts'
import { openDatabase } from '../db/open.ts'
import { armBootRecord } from '../db/rollouts.ts'
import { until } from '../lib/until.ts'
import { isConducted } from '../model/conduct.ts'
import type { DeploymentState } from '../model/deployment.ts'
import { bootToken } from '../model/token.ts'
import { controlHandlers } from '../operations/control.ts'
import { powerHandlers } from '../operations/power.ts'
import { serviceHandlers } from '../operations/service.ts'
import {
  exampleInventory,
  exampleProof,
  nameImage,
  openTestWorld,
  putState,
  type TestWorld,
} from '../operations/testing.ts'
import { type Conductor, startConductor } from './conductor.ts'
import { type Engine, startEngine } from './engine.ts'

const admin: Caller = { kind: 'user', name: 'ada', role: 'admin', address: 'test' }

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let service: ReturnType<typeof serviceHandlers>
const open: (Engine | Conductor)[] = []

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  service = serviceHandlers(world)
  await nameImage(world, 'debian', '12')
  const xml = `<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk>
    <finish action="stay"/><deadlines boot="10min" deploy="1h" observe="10min" attempts="1"/></setup>`
  await control.putSetup({ xml }, admin)
})
afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
  await world.close()
})

const macOf = (n: number) => `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`

async function addHost(n: number): Promise<void> {
  const powerMethods = [{ driver: 'manual', options: [] }]
  await control.addHost({ name: `n${n}`, interfaces: [{ mac: macOf(n) }], powerMethods }, admin)
}

async function addHosts(count: number): Promise<void> {
  for (let n = 1; n <= count; n += 1) await addHost(n)
}

function conductIt(): Conductor {
  const conductor = startConductor(world)
  open.push(conductor)
  return conductor
}

async function engineToo(): Promise<Engine> {
  const power = inProcess(powerPort, powerHandlers(world))
  const engine = await startEngine({ ...world, power })
  open.push(engine)
  return engine
}

type Order = Partial<Parameters<typeof control.startRollout>[0]>

const start = async (nodeset: string, order: Order = {}) =>
  (await control.startRollout({ nodeset, setup: 'demo', ...order }, admin)).rollout.id
const rolloutOf = async (id: number): Promise<RolloutView> => (await control.getRollout({ rollout: id }, admin)).rollout
const statesOf = async (id: number) => (await rolloutOf(id)).deployments.map(({ state }) => state).join()

async function sees(id: number, states: string): Promise<void> {
  await until(states, async () => (await statesOf(id)) === states, { timeoutMs: 15_000, everyMs: 20 })
}

async function comesTo(id: number, state: RolloutView['state']): Promise<RolloutView> {
  // The row itself: the view would say so before the conductor has.
  await until(`rollout ${id} to be ${state}`, async () => (await findRollout(world.db, id)).state === state, {
    timeoutMs: 15_000,
  })
  return await rolloutOf(id)
}

/** Plays how the deployment of a host of the rollout ends. */
async function ends(id: number, host: string, state: DeploymentState): Promise<void> {
  const deployment = (await rolloutOf(id)).deployments.find((one) => one.host === host)
  await putState(world, deployment?.id ?? 0, state)
}

/** The agent of a machine that has been switched on: registers, and says that the disk is proven. */
async function agentDeploys(n: number): Promise<void> {
  const boot = await bootByMac(world.db, macOf(n))
  const token = boot?.deployment && bootToken(world.keyring, boot.deployment)
  const caller: Caller = { kind: 'bearer', token: token?.reveal() ?? '', address: '127.0.0.1' }
  const inventory = { ...exampleInventory, interfaces: [{ name: 'eth0', mac: macOf(n), carrier: true }] }
  const { sessionKey } = await service.registerHost(
    { host: `n${n}`, agent: randomUUID(), agentVersion: '1', inventory },
    caller,
  )
  const deployment = boot?.deployment?.id ?? 0
  await service.completeDeployment({ deployment, proof: exampleProof }, { ...caller, token: sessionKey })
}

test('the canary is deployed to its end before any other host is touched, by engine and agents as they are', async () => {
  await addHosts(3)
  await engineToo()
  conductIt()
  const id = await start('n[1-3]', { policy: { canary: '1' } })
  await sees(id, 'booting,waiting,waiting')
  expect((await control.listBoot({}, admin)).records.map(({ target }) => target)).toEqual(['scout', 'local', 'local'])
  expect(await rolloutOf(id)).toMatchObject({ state: 'running', wave: 0, waitsFor: 'the canary: 1 host is under way' })
  await agentDeploys(1)
  await sees(id, 'done,booting,booting')
  for (const n of [2, 3]) await agentDeploys(n)
  expect(await comesTo(id, 'succeeded')).toMatchObject({
    reason: '3 of 3 hosts are done, 0 failed',
    endedAt: expect.any(String),
    counts: { total: 3, done: 3 },
  })
  const { events } = await control.listEvents({}, admin)
  expect(events.filter(({ source }) => source === 'conductor').map(({ kind }) => kind)).toEqual([
    'begun',
    'begun',
    'begun',
    'rollout-succeeded',
  ])
}, 60_000)

test('a canary that fails stops the rest, which a retry of all takes up again, the canary first', async () => {
  await addHosts(3)
  conductIt()
  const id = await start('n[1-3]', { policy: { canary: '1' } })
  await sees(id, 'queued,waiting,waiting')
  await ends(id, 'n1', 'failed')
  const stopped = await comesTo(id, 'stopped')
  expect(stopped).toMatchObject({ reason: 'the canary n1 is failed', counts: { failed: 1, cancelled: 2 } })
  expect(stopped.deployments[1]?.failure?.message[0]).toBe(
    'it did not begin: the rollout stopped, because the canary n1 is failed',
  )
  await control.retryRollout({ rollout: id, which: 'not-done' }, admin)
  await sees(id, 'queued,waiting,waiting')
  await ends(id, 'n1', 'done')
  await sees(id, 'done,queued,queued')
})

test('too many failures pause a rollout whose hosts under way go on; resumed, it goes to its end', async () => {
  await addHosts(5)
  conductIt()
  const policy = { concurrency: '2', stopAtFailed: '20%', atFailures: 'pause' } as const
  const id = await start('n[1-5]', { policy })
  await sees(id, 'queued,queued,waiting,waiting,waiting')
  await ends(id, 'n1', 'failed')
  expect((await comesTo(id, 'paused')).reason).toBe('1 of 5 hosts failed, and 1 are too many')
  await ends(id, 'n2', 'done')
  expect((await rolloutOf(id)).waitsFor).toBe('somebody to resume it')
  expect(await statesOf(id)).toBe('failed,done,waiting,waiting,waiting')
  await control.resumeRollout({ rollout: id }, admin)
  await sees(id, 'failed,done,queued,queued,waiting')
  for (const host of ['n3', 'n4']) await ends(id, host, 'done')
  await sees(id, 'failed,done,done,done,queued')
  await ends(id, 'n5', 'done')
  expect((await comesTo(id, 'partly-failed')).reason).toBe('4 of 5 hosts are done, 1 failed')
})

test('a spare stands in for a host that failed, and is let go when enough are done', async () => {
  await addHosts(4)
  conductIt()
  const id = await start('n[1-4]', { policy: { quorum: '2' } })
  await sees(id, 'queued,queued,waiting,waiting')
  await ends(id, 'n1', 'failed')
  await sees(id, 'failed,queued,queued,waiting')
  for (const host of ['n2', 'n3']) await ends(id, host, 'done')
  const rollout = await comesTo(id, 'succeeded')
  expect(rollout).toMatchObject({
    reason: 'of 4 hosts 2 are done, and 2 were to be',
    counts: { done: 2, cancelled: 1 },
  })
  expect((await control.listBoot({ nodeset: 'n4' }, admin)).records[0]?.target).toBe('local')
})

test('a retry of a rollout that has reached its quorum goes on to do those that are named', async () => {
  await addHosts(3)
  conductIt()
  const id = await start('n[1-3]', { policy: { quorum: '1', concurrency: '1' } })
  await sees(id, 'queued,waiting,waiting')
  await ends(id, 'n1', 'done')
  await comesTo(id, 'succeeded')
  await control.retryRollout({ rollout: id, nodeset: 'n2' }, admin)
  await sees(id, 'done,queued,cancelled')
  await ends(id, 'n2', 'done')
  expect((await comesTo(id, 'succeeded')).reason).toBe('2 of 3 hosts are done, 0 failed')
})

test('a wave begins when the one before has ended', async () => {
  await addHosts(3)
  conductIt()
  const id = await start('n[1-3]', { policy: { wave: '2' } })
  await sees(id, 'queued,queued,waiting')
  await ends(id, 'n1', 'done')
  expect((await rolloutOf(id)).waitsFor).toBe('wave 1: 1 host is under way')
  await ends(id, 'n2', 'failed')
  await sees(id, 'done,failed,queued')
  expect((await rolloutOf(id)).wave).toBe(2)
})

test('nothing begins before its time', async () => {
  await addHosts(1)
  conductIt()
  const startAt = new Date(world.now() + 3_600_000).toISOString()
  const id = await start('n1', { policy: { startAt } })
  // Another that may begin shows that the conductor has looked.
  await addHost(2)
  const other = await start('n2', { policy: { concurrency: '1' } })
  await sees(other, 'queued')
  expect(await statesOf(id)).toBe('waiting')
  world.clock.offsetMs += 3_600_001
  await sees(id, 'queued')
})

test('a host that another rollout has is waited for, and says so', async () => {
  await addHosts(2)
  conductIt()
  const first = await start('n1')
  const second = await start('n[1-2]', { ifBusy: 'queue' })
  await sees(second, 'waiting,queued')
  expect((await rolloutOf(second)).waitsFor).toBe(`n1 to end in rollout ${first}`)
  await control.cancelRollout({ rollout: first }, admin)
  await sees(second, 'queued,queued')
  const { records } = await control.listBoot({ nodeset: 'n1' }, admin)
  expect(records[0]).toMatchObject({ target: 'scout', deployment: (await rolloutOf(second)).deployments[0]?.id })
})

test('a boot record that a deployment under way owns is not taken from it', async () => {
  await addHosts(1)
  const id = await start('n1')
  const [deployment] = (await rolloutOf(id)).deployments
  const row = await findDeployment(world.db, deployment?.id ?? 0)
  expect(await armBootRecord(world.db, row.host_id, row.id + 1, world.now())).toBe(false)
  await control.cancelRollout({ rollout: id }, admin)
  expect(await armBootRecord(world.db, row.host_id, row.id + 1, world.now())).toBe(true)
})

test('a rollout that is paused while its conductor is away stays where it was', async () => {
  await addHosts(2)
  const conductor = conductIt()
  const id = await start('n[1-2]', { policy: { concurrency: '1' } })
  await sees(id, 'queued,waiting')
  await conductor.close()
  await control.pauseRollout({ rollout: id }, admin)
  await ends(id, 'n1', 'done')
  conductIt()
  await addHost(9)
  await sees(await start('n9', { policy: { concurrency: '1' } }), 'queued')
  expect(await statesOf(id)).toBe('done,waiting')
})

/** Lets every host of the rollout that has begun end, each fifth but canaries unwell, until the rollout has ended. */
async function playToEnd(id: number, placesMax: number, onEnded: (ended: number) => void = () => {}): Promise<void> {
  let ended = 0
  await until(
    'the end',
    async () => {
      const { deployments, state } = await rolloutOf(id)
      const running = deployments.filter((one) => one.state === 'queued')
      expect(running.length).toBeLessThanOrEqual(placesMax)
      for (const { host, wave } of running) {
        ended += 1
        await ends(id, host, wave > 0 && ended % 5 === 0 ? 'failed' : 'done')
      }
      onEnded(ended)
      return state === 'partly-failed'
    },
    { timeoutMs: 80_000, everyMs: 20 },
  )
}

async function expectBegunOnce(hosts: number): Promise<void> {
  const begun = (await control.listEvents({ limit: 1000 }, admin)).events.filter(({ kind }) => kind === 'begun')
  expect(begun).toHaveLength(hosts)
  expect(new Set(begun.map(({ host }) => host)).size).toBe(hosts)
}

test('three conductors of one rollout begin each host once, and never one too many', async () => {
  await addHosts(20)
  for (let i = 0; i < 3; i += 1) conductIt()
  const id = await start('n[1-20]', { policy: { concurrency: '3', canary: '2', stopAtFailed: '50%' } })
  await playToEnd(id, 3)
  await expectBegunOnce(20)
}, 120_000)

/** A process that does nothing but conduct, until it is killed. */
function conductAlone(path: string) {
  const program = `
    import pino from 'pino'
    import { openDatabase } from './src/db/open.ts'
    import { startConductor } from './src/deploy/conductor.ts'
    startConductor({ db: await openDatabase(${JSON.stringify(path)}), log: pino(), now: Date.now })`
  return execa(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: join(import.meta.dirname, '..', '..'),
    reject: false,
  })
}

test('three processes that conduct one rollout, one killed after the other, begin each host once and never one too many', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hades-conductors-'))
  const path = join(folder, 'hades.db')
  const db = await openDatabase(path)
  world = { ...world, db }
  control = controlHandlers(world)
  await nameImage(world, 'debian', '12')
  const xml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
  await control.putSetup({ xml }, admin)
  await addHosts(20)
  const processes = [conductAlone(path), conductAlone(path), conductAlone(path)]
  try {
    const id = await start('n[1-20]', { policy: { concurrency: '3', canary: '2', stopAtFailed: '50%' } })
    await playToEnd(id, 3, (ended) => {
      if (ended >= 8) processes[0]?.kill('SIGKILL')
      if (ended >= 14) processes[1]?.kill('SIGKILL')
    })
    await expectBegunOnce(20)
  } finally {
    for (const one of processes) one.kill('SIGKILL')
    await Promise.all(processes)
    await db.destroy()
    await rm(folder, { recursive: true, force: true })
  }
}, 120_000)

test('whatever policy a rollout has, it ends when each of its hosts does', async () => {
  await addHosts(6)
  conductIt()
  const share = fc.option(fc.constantFrom('1', '2', '50%', '100%'), { nil: undefined })
  const policies = fc.record({ canary: share, wave: share, concurrency: share, stopAtFailed: share, quorum: share })
  await fc.assert(
    fc.asyncProperty(policies, fc.infiniteStream(fc.boolean()), async (shares, outcomes) => {
      const policy = Object.fromEntries(Object.entries(shares).filter(([, value]) => value !== undefined))
      const id = await start('n[1-6]', { policy })
      await until(
        `the end of ${JSON.stringify(policy)}`,
        async () => {
          const { deployments, endedAt } = await rolloutOf(id)
          for (const { host, state } of deployments) {
            if (state === 'queued') await ends(id, host, outcomes.next().value ? 'done' : 'failed')
          }
          return endedAt !== undefined
        },
        { timeoutMs: 20_000, everyMs: 20 },
      )
      await until('its end in the row', async () => !isConducted((await findRollout(world.db, id)).state), {
        timeoutMs: 5000,
      })
    }),
    { numRuns: 4 },
  )
}, 120_000)
