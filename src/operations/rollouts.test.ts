import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { findHosts, putInventory } from '../db/hosts.ts'
import type { DeploymentState } from '../model/deployment.ts'
import { controlHandlers } from './control.ts'
import { exampleInventory, nameImage, openTestWorld, putState, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'ada', role: 'admin', address: 'test' }

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  await nameImage(world, 'debian', '12')
  const xml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
  await control.putSetup({ xml }, admin)
})
afterEach(async () => {
  await world.close()
})

async function addHosts(count: number): Promise<void> {
  for (let n = 1; n <= count; n += 1) await addHost(n)
}

async function addHost(n: number, more: { protected?: string; rack?: string; powerMethods?: [] } = {}): Promise<void> {
  const interfaces = [{ mac: `52:54:00:00:00:${n.toString(16).padStart(2, '0')}` }]
  const powerMethods = [{ driver: 'manual', options: [] }]
  await control.addHost({ name: `n${n}`, interfaces, powerMethods, ...more }, admin)
}

type Order = Partial<Parameters<typeof control.startRollout>[0]>

const start = async (nodeset: string, order: Order = {}) =>
  (await control.startRollout({ nodeset, setup: 'demo', ...order }, admin)).rollout
const plan = async (nodeset: string, order: Order = {}) =>
  (await control.planRollout({ nodeset, setup: 'demo', ...order }, admin)).plan
const rolloutOf = async (id: number) => (await control.getRollout({ rollout: id }, admin)).rollout

async function ends(deployment: number | undefined, state: DeploymentState): Promise<void> {
  await putState(world, deployment ?? 0, state)
}

async function targets(): Promise<string[]> {
  return (await control.listBoot({}, admin)).records.map(({ target }) => target)
}

test('more hosts than the service is set to begin only when their number or their names are confirmed', async () => {
  await addHosts(21)
  await expect(start('*')).rejects.toMatchObject({
    code: 'confirm-needed',
    at: 'confirm',
    message: 'this deploys to 21 hosts, n[1-21], and nothing was confirmed: confirm 21 if all of them are meant',
  })
  await expect(start('*', { confirm: '20' })).rejects.toMatchObject({
    code: 'confirm-needed',
    message: expect.stringMatching(/`20` was confirmed/),
  })
  await expect(start('*', { confirm: 'n[1-20]' })).rejects.toMatchObject({ code: 'confirm-needed' })
  expect(await plan('*')).toMatchObject({ needsConfirm: true, nodeset: 'n[1-21]' })
  const first = await start('*', { confirm: '21' })
  await control.cancelRollout({ rollout: first.id }, admin)
  await start('*', { confirm: 'n[1-20],n21' })
})

test('what is confirmed of few hosts must be right, too', async () => {
  await addHosts(3)
  await expect(start('n[1-3]', { confirm: '2' })).rejects.toMatchObject({ code: 'confirm-needed' })
  await start('n[1-3]', { confirm: '3' })
})

test('a protected host is taken only when it is named as meant', async () => {
  await addHosts(1)
  await addHost(2, { protected: 'the login node' })
  await expect(start('*')).rejects.toMatchObject({ code: 'host-protected', message: 'n2: protected: the login node' })
  await expect(start('*', { includeProtected: '*' })).rejects.toMatchObject({
    code: 'bad-input',
    at: 'includeProtected',
  })
  expect((await plan('*', { exclude: ['protected'] })).excluded).toEqual([
    { host: 'n2', reason: 'protected', text: 'protected: the login node' },
  ])
  await start('*', { includeProtected: 'n2' })
  await control.cancelRollout({ rollout: 1 }, admin)
  const erase = { nodeset: 'n2', method: 'zero', confirm: 1 } as const
  await expect(control.startErase(erase, admin)).rejects.toMatchObject({ code: 'host-protected' })
  await control.changeHost({ name: 'n2', protected: '' }, admin)
  expect((await control.getHost({ name: 'n2' }, admin)).host.protected).toBeUndefined()
  await start('*')
})

test('hosts that would refuse the rollout, or are only remarked upon, are left out by choice and listed', async () => {
  await addHosts(4)
  await addHost(5, { powerMethods: [] })
  await start('n1')
  for (let i = 0; i < 2; i += 1) await ends((await start('n2')).deployments[0]?.id, 'failed')
  for (const name of ['n1', 'n2', 'n3', 'n5']) {
    const [host] = await findHosts(world.db, [name])
    await putInventory(world.db, host?.id ?? 0, JSON.stringify(exampleInventory), world.now())
  }
  expect((await plan('n2')).hosts[0]?.warnings).toContainEqual('its last 2 deployments failed')
  const exclude = ['no-power-method', 'unknown-disk', 'failed-twice'] as const
  const rollout = await start('*', { ifBusy: 'exclude', exclude: [...exclude] })
  expect(rollout.deployments.map(({ host }) => host)).toEqual(['n3'])
  expect(rollout.excluded).toEqual([
    { host: 'n1', reason: 'in-rollout', text: 'in rollout 1' },
    { host: 'n2', reason: 'failed-twice', text: 'its last 2 deployments failed' },
    { host: 'n4', reason: 'unknown-disk', text: 'its disks were never seen' },
    { host: 'n5', reason: 'no-power-method', text: 'no power method' },
  ])
  await expect(start('n[4-5]', { exclude: ['unknown-disk', 'no-power-method'] })).rejects.toMatchObject({
    code: 'bad-input',
    at: 'exclude',
  })
})

test('a plan tells sizes, what the disks hold, who begins when, and a time only when there is something to go by', async () => {
  await addHosts(5)
  const before = await plan('n[1-5]', { policy: { canary: '1', wave: '50%' } })
  expect(before).toMatchObject({
    sizes: [{ reference: 'debian:12', sizeBytes: 2 ** 30, storedBytes: 2 ** 27 }],
    estimate: { basis: expect.stringMatching(/^unknown/) },
    waves: [
      { wave: 0, nodeset: 'n1', hosts: 1 },
      { wave: 1, nodeset: 'n[2-4]', hosts: 3 },
      { wave: 2, nodeset: 'n5', hosts: 1 },
    ],
  })
  expect(before.estimate.seconds).toBeUndefined()
  const { deployments } = await start('n1')
  world.clock.offsetMs += 60_000
  await ends(deployments[0]?.id, 'done')
  const after = await plan('n[1-5]', { policy: { canary: '1', wave: '50%' } })
  expect(after.hosts[0]?.holds).toMatchObject({ deployment: 1, setup: 'demo:1', images: ['debian:12'] })
  expect(after.hosts[1]?.holds).toBeUndefined()
  expect(Math.round(after.estimate.hostSeconds ?? 0)).toBe(60)
  expect(Math.round((after.estimate.seconds ?? 0) / 10)).toBe(18)
})

test('hosts that wait for their turn are untouched until then', async () => {
  await addHosts(3)
  const rollout = await start('n[1-3]', { policy: { canary: '1', concurrency: '1' } })
  expect(rollout).toMatchObject({ state: 'running', waves: 1, wave: 0, counts: { total: 3, waiting: 3 } })
  expect(rollout.deployments.map(({ state, wave }) => [state, wave])).toEqual([
    ['waiting', 0],
    ['waiting', 1],
    ['waiting', 1],
  ])
  expect(await targets()).toEqual(['local', 'local', 'local'])
  world.clock.offsetMs += 3_600_000
  const { explanation } = await control.explainHost({ host: 'n2' }, admin)
  expect(explanation).toMatchObject({ isStuck: false, causes: [] })
  expect(explanation.summary).toMatch(/not begun yet; it waits for its rollout to let wave 1 begin/)
  // They may be pointed elsewhere, but are not forgotten.
  await control.setBoot({ nodeset: 'n1', target: 'hold' }, admin)
  await expect(control.removeHost({ name: 'n1' }, admin)).rejects.toMatchObject({ code: 'in-use' })
})

test('a policy that makes no sense is refused with its field', async () => {
  await addHosts(2)
  const policies = [{ quorum: '3' }, { spares: 'hold' as const }, { atFailures: 'stop' as const }]
  for (const policy of policies) {
    await expect(start('n[1-2]', { policy })).rejects.toMatchObject({
      code: 'bad-input',
      at: `policy.${Object.keys(policy)[0]}`,
    })
  }
})

test('a rollout of hosts that are in another is refused, or waits for it by choice', async () => {
  await addHosts(2)
  await start('n1')
  await expect(start('n[1-2]')).rejects.toMatchObject({ code: 'wrong-state', message: expect.stringMatching(/^n1: /) })
  const second = await start('n[1-2]', { ifBusy: 'queue' })
  expect(second.deployments.map(({ state }) => state)).toEqual(['waiting', 'waiting'])
  // And a third behind both.
  await expect(start('n2')).rejects.toMatchObject({ code: 'wrong-state' })
  expect((await plan('n2', { ifBusy: 'queue' })).hosts[0]).toMatchObject({
    behind: second.id,
    warnings: expect.arrayContaining([`it waits for the end of rollout ${second.id}`]),
  })
})

test('a rollout is paused and resumed, and one that has ended is not', async () => {
  await addHosts(1)
  const { id } = await start('n1', { policy: { startAt: '2999-01-01T00:00:00Z' } })
  expect((await rolloutOf(id)).waitsFor).toBe('its time to start, 2999-01-01T00:00:00.000Z')
  const paused = await control.pauseRollout({ rollout: id, reason: 'the switch is being changed' }, admin)
  expect(paused.rollout).toMatchObject({ state: 'paused', reason: 'the switch is being changed' })
  expect((await control.pauseRollout({ rollout: id }, admin)).rollout.reason).toBe('the switch is being changed')
  const resumed = await control.resumeRollout({ rollout: id }, admin)
  expect(resumed.rollout.state).toBe('running')
  expect(resumed.rollout.reason).toBeUndefined()
  const cancelled = await control.cancelRollout({ rollout: id }, admin)
  expect(cancelled.rollout).toMatchObject({ state: 'cancelled', reason: 'by ada', counts: { cancelled: 1 } })
  await expect(control.pauseRollout({ rollout: id }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
    message: `rollout ${id} is cancelled: there is nothing to pause`,
  })
  await expect(control.resumeRollout({ rollout: 9 }, admin)).rejects.toMatchObject({ code: 'unknown-rollout' })
})

test.each(['waiting', 'queued', 'powering', 'booting', 'deploying', 'rebooting'] as const)(
  'a host that is cancelled while %s boots its default again and is free',
  async (state) => {
    await addHosts(1)
    const { id, deployments } = await start('n1', state === 'waiting' ? { policy: { concurrency: '1' } } : {})
    if (state !== 'waiting' && state !== 'queued') await ends(deployments[0]?.id, state)
    const { rollout } = await control.cancelRollout({ rollout: id, nodeset: 'n1' }, admin)
    expect(rollout).toMatchObject({ state: 'cancelled', deployments: [{ state: 'cancelled' }] })
    expect(await targets()).toEqual(['local'])
    await start('n1')
  },
)

test('with reboot, only the machines that were under way are switched, by a task', async () => {
  await addHosts(2)
  const { id, deployments } = await start('n[1-2]')
  await ends(deployments[0]?.id, 'deploying')
  const { task } = await control.cancelRollout({ rollout: id, reboot: true }, admin)
  const found = (await control.getTask({ task: task?.id ?? 0 }, admin)).task
  expect(found.reboots).toMatchObject([{ host: 'n1', target: 'local', state: 'waiting' }])
})

test('hosts that failed are done again in the same rollout, and the old deployments stay as they ended', async () => {
  await addHosts(3)
  const { id, deployments } = await start('n[1-3]')
  const [one, two, three] = deployments.map((deployment) => deployment.id)
  await expect(control.retryRollout({ rollout: id }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
    message: expect.stringMatching(/no host of it has failed/),
  })
  await ends(one, 'done')
  await ends(two, 'failed')
  await control.cancelRollout({ rollout: id, nodeset: 'n3' }, admin)
  expect(await rolloutOf(id)).toMatchObject({ state: 'partly-failed', counts: { total: 2, done: 1, failed: 1 } })
  await expect(control.retryRollout({ rollout: id, nodeset: 'n[1-2]' }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
    message: expect.stringMatching(/^n1: done/),
  })
  const { rollout } = await control.retryRollout({ rollout: id }, admin)
  expect(rollout).toMatchObject({ state: 'running', counts: { total: 2, waiting: 1, done: 1, cancelled: 1 } })
  expect(rollout.deployments.map(({ host, state, retryOf }) => [host, state, retryOf])).toEqual([
    ['n1', 'done', undefined],
    ['n2', 'waiting', two],
    ['n3', 'cancelled', undefined],
  ])
  expect((await control.getDeployment({ deployment: two ?? 0 }, admin)).deployment.state).toBe('failed')
  // Neither twice, nor the old one.
  await expect(control.retryRollout({ rollout: id }, admin)).rejects.toMatchObject({ code: 'wrong-state' })
  await expect(control.retryDeployment({ deployment: two ?? 0 }, admin)).rejects.toMatchObject({ code: 'wrong-state' })
  const { deployment } = await control.retryDeployment({ deployment: three ?? 0 }, admin)
  expect(deployment).toMatchObject({ host: 'n3', state: 'waiting', retryOf: three })
})

test('a host that is protected since, or in another rollout, is not done again', async () => {
  await addHosts(2)
  const { id, deployments } = await start('n[1-2]')
  for (const deployment of deployments) await ends(deployment.id, 'failed')
  await control.changeHost({ name: 'n1', protected: 'now the login node' }, admin)
  await start('n2')
  await expect(control.retryRollout({ rollout: id, nodeset: 'n1' }, admin)).rejects.toMatchObject({
    code: 'host-protected',
  })
  await expect(control.retryRollout({ rollout: id, nodeset: 'n2' }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
  })
  const again = await control.retryRollout({ rollout: id, nodeset: 'n1', includeProtected: 'n1' }, admin)
  expect(again.rollout.state).toBe('running')
})
