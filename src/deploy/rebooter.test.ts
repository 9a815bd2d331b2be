// Machines that are switched to what their boot records say: rows in SQLite, the handlers of the ports, controllers of
// ipmi_sim, and the answerer of boot requests. Only the machines are played, by what they ask when they boot.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bootResolver } from '../boot/resolve.ts'
import { scriptPathFor } from '../boot/scripts.ts'
import { inProcess } from '../client/client.ts'
import type { Caller } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { releaseClaim } from '../db/claims.ts'
import { findDeployment } from '../db/deployments.ts'
import { claimReboots } from '../db/reboots.ts'
import { losing } from '../db/testing.ts'
import { until } from '../lib/until.ts'
import { bootAskMs } from '../model/reboot.ts'
import { controlHandlers } from '../operations/control.ts'
import { powerHandlers } from '../operations/power.ts'
import { nameImage, openTestWorld, type TestWorld } from '../operations/testing.ts'
import { type IpmiSim, startIpmiSim } from '../power/ipmi-sim.ts'
import { type Rebooter, startRebooter } from './rebooter.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const macOf = (name: string) => `52:54:00:00:00:0${name.slice(1)}`

let world: TestWorld
let sim: IpmiSim
let rebooter: Rebooter | undefined
let control: ReturnType<typeof controlHandlers>

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  sim = await startIpmiSim({
    machines: [
      { name: 'n1', power: 'on' },
      { name: 'n2', behaviour: 'refuses' },
    ],
  })
  for (const name of ['n1', 'n2', 'n3']) {
    const powerMethods = name === 'n3' ? [] : [methodOf(name)]
    await control.addHost({ name, interfaces: [{ mac: macOf(name) }], powerMethods }, admin)
  }
})
afterEach(async () => {
  await rebooter?.close()
  rebooter = undefined
  await sim.close()
  await world.close()
})

function methodOf(name: string) {
  const { driver, address, username, password } = sim.method(name)
  return { driver, address, username, password: password.reveal(), options: [] }
}

async function start(powerDb = world.db): Promise<void> {
  rebooter = await startRebooter({ ...world, power: inProcess(powerPort, powerHandlers({ ...world, db: powerDb })) })
}

/** What the loader of a machine does when it boots. */
async function asksForScript(name: string): Promise<void> {
  const folders = { loaders: '/nowhere', scout: '/nowhere', netboot: '/nowhere' }
  const common = {
    httpBase: world.bootBase,
    stage2Sha256: '',
    imageKey: '',
    scoutArgs: [],
    onScript: () => {},
    onStranger: () => {},
  }
  const resolve = bootResolver({ ...world, ...common, folders })
  await resolve({ via: 'tftp', path: scriptPathFor('grub', macOf(name)), peerAddress: '10.0.0.1' })
}

const taskOf = async (task: number) => (await control.getTask({ task }, admin)).task
async function reboot(nodeset: string, target: 'local' | 'local:2' | 'hold' = 'local:2'): Promise<number> {
  const { task } = await control.setBoot({ nodeset, target, reboot: true }, admin)
  return task?.id ?? 0
}
async function stateOf(task: number, host: string, state: string): Promise<void> {
  const isThere = async () => (await taskOf(task)).reboots?.find((row) => row.host === host)?.state === state
  await until(`${host} to be ${state}`, isThere, { timeoutMs: 20_000, everyMs: 20 })
}
async function ended(task: number) {
  await until('the task to end', async () => (await taskOf(task)).state !== 'running', {
    timeoutMs: 20_000,
    everyMs: 20,
  })
  return await taskOf(task)
}

test('each host is a row: one is done when it asks for its script, others fail without holding it up', async () => {
  const task = await reboot('n[1-3]')
  await start()
  await stateOf(task, 'n1', 'booting')
  expect((await taskOf(task)).reboots?.[0]?.said).toContain('has not asked for its script yet')
  expect(sim.power('n1')).toBe('on')
  const asked = sim.events.filter(({ machine }) => machine === 'n1')
  expect(
    asked.map((event) => ('state' in event ? event.state : 'device' in event ? event.device : event.kind)),
  ).toEqual(['shutdown', 'off', 'pxe', 'off', 'on'])
  await asksForScript('n1')
  const done = await ended(task)
  expect(done).toMatchObject({ state: 'failed', failure: { message: [expect.stringContaining('2 of 3 hosts')] } })
  expect(done.reboots).toMatchObject([
    { host: 'n1', target: 'local:2', state: 'done', said: 'it asked for its script: boots local:2' },
    { host: 'n2', state: 'failed', failure: { code: expect.stringMatching(/^bmc-/) } },
    { host: 'n3', state: 'failed', failure: { code: 'no-power-method' } },
  ])
  const { events } = await control.listEvents({ nodeset: 'n1' }, admin)
  expect(events.map(({ kind }) => kind)).toContain('rebooted')
})

test('a service that is stopped in the middle goes on when it is started again, and switches nothing twice', async () => {
  const task = await reboot('n1')
  await start()
  await stateOf(task, 'n1', 'booting')
  await rebooter?.close()
  await asksForScript('n1')
  const switched = sim.events.length
  await start()
  expect(await ended(task)).toMatchObject({ state: 'done', reboots: [{ state: 'done' }] })
  expect(sim.events).toHaveLength(switched)
})

test('a host that was being switched when the service died is switched again, unless it has asked since', async () => {
  const task = await reboot('n1')
  await world.db
    .updateTable('reboots')
    .set({ state: 'switching', began_at: world.now() - 1 })
    .execute()
  await asksForScript('n1')
  await start()
  expect(await ended(task)).toMatchObject({ state: 'done' })
  expect(sim.events).toEqual([])
})

test('a database that is away while a controller is asked ends no reboot', async () => {
  const task = await reboot('n1', 'local')
  await start(losing(world.db, 2))
  const isOver = async (): Promise<boolean> => {
    world.clock.offsetMs += 1000
    return (await taskOf(task)).state !== 'running'
  }
  await until('the task to end', isOver, { timeoutMs: 30_000, everyMs: 100 })
  expect(await taskOf(task)).toMatchObject({ state: 'done', reboots: [{ host: 'n1', state: 'done' }] })
})

test('a host whose deployment is still claimed is switched when the claim is given back', async () => {
  await nameImage(world, 'debian', '12')
  const xml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
  await control.putSetup({ xml }, admin)
  await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  await control.cancelRollout({ rollout: 1 }, admin)
  await world.db.updateTable('deployments').set({ lease_owner: 'another' }).execute()
  await reboot('n1', 'local')
  const claim = () => claimReboots(world.db, { owner: 'mine', until: world.now() + 1000, limit: 10 }, world.now())
  expect(await claim()).toEqual([])
  await releaseClaim(world.db, await findDeployment(world.db, 1), 'another', world.now())
  expect((await claim()).map(({ host }) => host)).toEqual(['n1'])
})

test('a host that is to start from its disk is set to it, and done when it is on', async () => {
  const task = await reboot('n1', 'local')
  await start()
  expect(await ended(task)).toMatchObject({ state: 'done', reboots: [{ host: 'n1', state: 'done' }] })
  expect(sim.boot('n1')).toBe('default')
})

test('a host whose record is set to something else while its system shuts down is not switched on for the old one', async () => {
  sim.behave('n1', 'ignores')
  const task = await reboot('n1')
  await start()
  await until('the system to be asked', () => sim.events.length > 0, { timeoutMs: 10_000 })
  world.clock.offsetMs += 1
  await control.setBoot({ nodeset: 'n1', target: 'hold' }, admin)
  sim.setPower('n1', 'off')
  expect((await ended(task)).reboots).toMatchObject([{ state: 'failed', failure: { code: 'wrong-state' } }])
  expect(sim.events.some((event) => event.kind === 'power' && event.state === 'on')).toBe(false)
})

test('a host that asks for nothing fails after its time, and one that is pointed elsewhere says so', async () => {
  const late = await reboot('n1')
  await start()
  await stateOf(late, 'n1', 'booting')
  world.clock.offsetMs += bootAskMs
  expect((await ended(late)).reboots).toMatchObject([{ failure: { code: 'boot-timeout' } }])
  const turned = await reboot('n1')
  await stateOf(turned, 'n1', 'booting')
  world.clock.offsetMs += 1
  await control.setBoot({ nodeset: 'n1', target: 'hold' }, admin)
  expect((await ended(turned)).reboots).toMatchObject([{ failure: { code: 'wrong-state' } }])
})
