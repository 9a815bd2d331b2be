import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { controlHandlers } from './control.ts'
import { nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const setupXml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
})
afterEach(async () => {
  await world.close()
})

async function addHosts(...names: string[]): Promise<void> {
  for (const name of names) {
    const last = Number(/\d+$/.exec(name)?.[0])
    const mac = `52:54:00:00:00:${String(last).padStart(2, '0')}`
    const interfaces = [{ mac, ip: `10.77.0.${last}` }]
    await control.addHost({ name, interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  }
}

async function addSetup(): Promise<void> {
  await nameImage(world, 'debian', '12')
  await control.putSetup({ xml: setupXml }, admin)
}

test('a host comes back as it was given, without its password', async () => {
  const powerMethods = [{ driver: 'ipmi', address: '10.0.0.9', username: 'admin', password: 'hunter2', options: [] }]
  const interfaces = [{ mac: '52-54-00-AA-BB-CC', ip: '10.77.0.1' }]
  const { host } = await control.addHost({ name: 'n1', rack: 'r1', interfaces, powerMethods }, admin)
  expect(host).toMatchObject({
    name: 'n1',
    rack: 'r1',
    loader: 'auto',
    bootTarget: 'local',
    interfaces: [{ mac: '52:54:00:aa:bb:cc', ip: '10.77.0.1' }],
    powerMethods: [{ driver: 'ipmi', address: '10.0.0.9', username: 'admin', options: [] }],
  })
  expect(JSON.stringify(host)).not.toContain('hunter2')
  const rows = await world.db.selectFrom('power_methods').selectAll().execute()
  expect(JSON.stringify(rows)).not.toContain('hunter2')
})

test('a name, MAC or IP address that is taken is refused, and nothing of the host is kept', async () => {
  await addHosts('n1')
  const add = (name: string, mac: string, ip: string) =>
    control.addHost({ name, interfaces: [{ mac, ip }], powerMethods: [] }, admin)
  await expect(add('n1', '52:54:00:00:00:09', '10.77.0.9')).rejects.toMatchObject({
    code: 'already-exists',
    at: 'name',
  })
  await expect(add('n2', '52:54:00:00:00:01', '10.77.0.9')).rejects.toMatchObject({
    code: 'already-exists',
    at: 'interfaces[0]',
    message: expect.stringContaining('n1'),
  })
  await expect(add('n2', '52:54:00:00:00:09', '10.77.0.1')).rejects.toMatchObject({ code: 'already-exists' })
  expect((await control.listHosts({}, admin)).hosts.map((host) => host.name)).toEqual(['n1'])
})

test('a power method that its driver cannot use is refused with its place', async () => {
  const add = (driver: string, options: { name: string; value: string }[] = []) =>
    control.addHost({ name: 'n1', interfaces: [], powerMethods: [{ driver, address: '10.0.0.1', options }] }, admin)
  await expect(add('magic')).rejects.toMatchObject({ code: 'unknown-driver', at: 'powerMethods[0].driver' })
  await expect(add('manual', [{ name: 'speed', value: '9' }])).rejects.toMatchObject({
    code: 'bad-input',
    at: 'powerMethods[0].options.speed',
  })
})

test('a rollout arms the boot record of each host in the same transaction', async () => {
  await addHosts('n1', 'n2')
  await addSetup()
  const { rollout } = await control.startRollout({ nodeset: 'n[1-2]', setup: 'demo' }, admin)
  expect(rollout.deployments.map(({ host, state }) => [host, state])).toEqual([
    ['n1', 'queued'],
    ['n2', 'queued'],
  ])
  const { records } = await control.listBoot({ nodeset: '*' }, admin)
  expect(records.map(({ target, deployment }) => [target, deployment])).toEqual([
    ['scout', rollout.deployments[0]?.id],
    ['scout', rollout.deployments[1]?.id],
  ])
})

test('a rollout that cannot begin whole does not begin at all', async () => {
  await addHosts('n1')
  await addSetup()
  const start = (nodeset: string, setup = 'demo', max = 10) => control.startRollout({ nodeset, setup, max }, admin)
  await expect(start('n[1-3]')).rejects.toMatchObject({
    code: 'unknown-host',
    message: expect.stringContaining('n2, n3'),
  })
  await expect(start('n1', 'other')).rejects.toMatchObject({ code: 'unknown-setup' })
  await expect(start('n1', 'demo:7')).rejects.toMatchObject({ code: 'unknown-setup' })
  await expect(start('n[1-')).rejects.toMatchObject({ code: 'bad-input', at: 'nodeset' })
  await control.addHost({ name: 'n4', interfaces: [{ mac: '52:54:00:00:00:44' }], powerMethods: [] }, admin)
  await expect(start('n1,n4')).rejects.toMatchObject({
    code: 'no-power-method',
    message: expect.stringContaining('n4'),
  })
  await expect(start('n1,n4', 'demo', 1)).rejects.toMatchObject({ code: 'bad-input', at: 'max' })
  expect((await control.listRollouts({}, admin)).rollouts).toEqual([])
  expect((await control.listBoot({}, admin)).records.map(({ target }) => target)).toEqual(['local', 'local'])
})

test('a host is in one rollout at a time, and cannot be removed or pointed elsewhere meanwhile', async () => {
  await addHosts('n1')
  await addSetup()
  await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  await expect(control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
  })
  await expect(control.removeHost({ name: 'n1' }, admin)).rejects.toMatchObject({ code: 'in-use' })
  await expect(control.setBoot({ nodeset: 'n1', target: 'local' }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
  })
  await expect(control.removeImage({ reference: 'debian:12' }, admin)).rejects.toMatchObject({
    code: 'in-use',
    message: expect.stringMatching(/setup demo:1, the deployment of n1/),
  })
})

test('cancelling gives the boot record back and says so', async () => {
  await addHosts('n1', 'n2')
  await addSetup()
  const { rollout } = await control.startRollout({ nodeset: 'n[1-2]', setup: 'demo' }, admin)
  const half = await control.cancelRollout({ rollout: rollout.id, nodeset: 'n1' }, admin)
  expect(half.rollout.deployments.map(({ state }) => state)).toEqual(['cancelled', 'queued'])
  const whole = await control.cancelRollout({ rollout: rollout.id }, admin)
  expect(whole.rollout.deployments.map(({ state }) => state)).toEqual(['cancelled', 'cancelled'])
  expect(whole.rollout.endedAt).toBeDefined()
  expect((await control.listBoot({}, admin)).records.map(({ target }) => target)).toEqual(['local', 'local'])
  const { events } = await control.listEvents({ nodeset: 'n1' }, admin)
  expect(events.map(({ kind }) => kind)).toEqual(['host-added', 'rollout-started', 'cancelled'])
})

test('setups are kept by version, and one that names no image is refused', async () => {
  await expect(control.putSetup({ xml: setupXml }, admin)).rejects.toMatchObject({ code: 'unknown-image' })
  await addSetup()
  const { setup } = await control.putSetup({ xml: setupXml }, admin)
  expect(setup).toMatchObject({ name: 'demo', version: 2, images: ['debian:12'] })
  expect((await control.listSetups({}, admin)).setups).toHaveLength(1)
  expect((await control.getSetup({ reference: 'demo:1' }, admin)).xml).toBe(setupXml)
})

test('an image that cannot be read or is broken fails its task in words', async () => {
  await expect(control.publishImage({ reference: 'a:1', path: '/nowhere' }, admin)).rejects.toMatchObject({
    code: 'bad-input',
    at: 'path',
  })
  const { task } = await control.publishImage({ reference: 'a:1', path: '/dev/null' }, admin)
  await expect
    .poll(async () => (await control.getTask({ task: task.id }, admin)).task, { timeout: 10_000 })
    .toMatchObject({ state: 'failed', failure: { code: expect.stringMatching(/image-broken|bad-input/) } })
  expect((await control.listImages({}, admin)).images).toEqual([])
})

test('whoever waits for events gets them when they come', async () => {
  const waiting = control.listEvents({ after: 0, waitMs: 20_000 }, admin)
  await addHosts('n1')
  expect((await waiting).events[0]?.kind).toBe('host-added')
})
