import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import type { Disk } from '../contract/types.ts'
import { findHosts, putInventory } from '../db/hosts.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, exampleProof, nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const bearer = (token: string): Caller => ({ kind: 'bearer', token, address: '10.77.0.11' })

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let service: ReturnType<typeof serviceHandlers>
beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  service = serviceHandlers(world)
  await nameImage(world, 'debian', '12')
  for (const n of [1, 2, 3]) {
    const interfaces = [{ mac: `52:54:00:00:00:0${n}`, ...(n === 3 ? {} : { ip: `10.77.0.1${n}` }) }]
    const place = n === 1 ? { site: 'turin' } : {}
    await control.addHost(
      { name: `n${n}`, ...place, interfaces, powerMethods: [{ driver: 'manual', options: [] }] },
      admin,
    )
  }
})
afterEach(async () => {
  await world.close()
})

const put = (inside: string) =>
  control.putSetup({ xml: `<setup xmlns="urn:hades:setup:1" name="demo">${inside}</setup>` }, admin)
const whole = '<disk><image>debian:12</image></disk>'
const [vda] = exampleInventory.disks as [Disk]

async function see(name: string, ...disks: Disk[]): Promise<void> {
  const [host] = await findHosts(world.db, [name])
  await putInventory(world.db, host?.id ?? 0, JSON.stringify({ ...exampleInventory, disks }), world.now())
}

const plan = async (input: Partial<Parameters<typeof control.planRollout>[0]> = {}) =>
  (await control.planRollout({ nodeset: 'n1', setup: 'demo', ...input }, admin)).plan

/** Brings a host through a deployment to the proven disk. */
async function deploy(name: string, disks: readonly Disk[], input: { acceptNewDisk?: boolean } = {}) {
  const { rollout } = await control.startRollout({ nodeset: name, setup: 'demo', ...input }, admin)
  const id = rollout.deployments[0]?.id ?? 0
  const token = await armDeployment(world, id, `nonce-${id}`)
  const registration = {
    host: name,
    agent: `11111111-1111-4111-8111-${String(id).padStart(12, '0')}`,
    agentVersion: '1',
    inventory: { ...exampleInventory, disks: [...disks] },
  }
  const { sessionKey, instructions } = await service.registerHost(registration, bearer(token))
  const [disk] = disks
  const prove = async () => {
    const proof = { ...exampleProof, diskPath: disk?.path ?? '', diskSizeBytes: disk?.sizeBytes ?? 0 }
    await service.completeDeployment({ deployment: id, proof }, bearer(sessionKey))
    await world.db.updateTable('deployments').set({ state: 'done', ended_at: 1 }).where('id', '=', id).execute()
  }
  return { id, work: instructions.work, prove }
}

test('a plan says which disk each name takes, and that a host was never seen', async () => {
  await put(whole)
  await see('n1', vda)
  const { hosts, ...rest } = await plan({ nodeset: 'n[1-2]' })
  expect(rest).toMatchObject({ setup: 'demo:1', images: ['debian:12'], canStart: true })
  expect(hosts).toEqual([
    {
      host: 'n1',
      inventoryAt: expect.any(String),
      disks: [{ name: 'system', disk: vda, standing: 'first' }],
      wave: 1,
      refusals: [],
      warnings: [],
    },
    { host: 'n2', disks: [], wave: 1, refusals: [], warnings: ['its disks were never seen: its agent decides'] },
  ])
  expect((await control.listRollouts({}, admin)).rollouts).toEqual([])
})

test('a manifest that cannot be read is told and keeps nothing from starting', async () => {
  await put(whole)
  expect((await plan()).warnings).toEqual([expect.stringMatching(/the manifest of image debian:12 cannot be read/)])
})

test('hosts whose disks do not fit are refused together, each with what was seen', async () => {
  await put(whole)
  await see('n1', vda, { ...vda, path: '/dev/vdb', serial: 'B2' })
  await see('n2', vda, { ...vda, path: '/dev/vdb', serial: 'B2' })
  const { canStart, hosts } = await plan({ nodeset: 'n[1-3]' })
  expect(canStart).toBe(false)
  expect(hosts.map(({ refusals }) => refusals.map(({ code }) => code))).toEqual([
    ['disk-ambiguous'],
    ['disk-ambiguous'],
    [],
  ])
  await expect(control.startRollout({ nodeset: 'n[1-3]', setup: 'demo' }, admin)).rejects.toMatchObject({
    code: 'disk-ambiguous',
    message: expect.stringMatching(
      /^n\[1-2\]: 2 disks meet the setup's 0 hints for `system`.*\/dev\/vda.*\/dev\/vdb[^;]*$/,
    ),
  })
  expect((await control.listRollouts({}, admin)).rollouts).toEqual([])
  // The disk was taken out since.
  const ignoring = await plan({ nodeset: 'n1', ignoreInventory: true })
  expect(ignoring.canStart).toBe(true)
  expect(ignoring.hosts[0]?.warnings[0]).toMatch(/not looked at/)
  await control.startRollout({ nodeset: 'n1', setup: 'demo', ignoreInventory: true }, admin)
})

test('a disk that is too small, and firmware that may not start the setup, are known beforehand', async () => {
  await nameImage(world, 'root', '12', 'partition')
  await put(`<disk><table type="mbr"><partition size="8GiB"><image>root:12</image></partition></table></disk>`)
  await see('n1', vda)
  const [host] = (await plan()).hosts
  expect(host?.refusals).toMatchObject([
    { code: 'image-too-large', message: [expect.stringMatching(/\/dev\/vda has/)] },
  ])
  expect(host?.warnings).toEqual([expect.stringMatching(/UEFI/)])
})

test('a host that is being deployed, has no power or no address is told with the others', async () => {
  await put(
    `${whole}<post-install><hostname>{{host}}.{{site}}</hostname><network mode="static" prefix="24" gateway="10.9.0.1"/></post-install>`,
  )
  await control.addHost({ name: 'n4', site: 'bern', interfaces: [], powerMethods: [] }, admin)
  const { hosts } = await plan({ nodeset: 'n[1-4]' })
  expect(hosts.map(({ refusals }) => refusals.map(({ message }) => message.join()))).toEqual([
    [],
    [expect.stringMatching(/no site of the host/)],
    [expect.stringMatching(/no ip of the host.*hades host change/)],
    ['no power method', expect.stringMatching(/no ip of the host/)],
  ])
  expect(hosts[0]?.warnings).toContainEqual('the gateway 10.9.0.1 is not in the network of 10.77.0.11/24')
  await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  expect((await plan()).hosts[0]?.refusals).toMatchObject([
    { code: 'wrong-state', message: ['in rollout 1: wait for it or cancel it'] },
  ])
})

test('the agent gets its templates filled in and its scripts as they were when the rollout began', async () => {
  await control.putScript({ name: 'hello', text: 'echo {{host}} of {{rollout}}' }, admin)
  await control.putScript({ name: 'hello', text: 'echo {{host}} {{ip}} {{mac}} {{deployment}} {{service}}' }, admin)
  await put(`${whole}<post-install><hostname>{{host}}-{{site}}</hostname>
<network mode="static" prefix="24" gateway="10.77.0.1"/>
<cloud-init><user-data>#cloud-config
fqdn: {{host}}.{{site}} {{{{ v1.region }} {{prefix}} {{gateway}} {{image}}</user-data></cloud-init>
<script name="a" library="hello" template="yes"/><script name="b" library="hello:1"/><script name="c">echo {{host}}</script>
</post-install>`)
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  await control.putScript({ name: 'hello', text: 'rm -rf /' }, admin)
  const id = rollout.deployments[0]?.id ?? 0
  const token = await armDeployment(world, id)
  const registration = { host: 'n1', agent: '11111111-1111-4111-8111-111111111111', agentVersion: '1' }
  const { instructions } = await service.registerHost({ ...registration, inventory: exampleInventory }, bearer(token))
  expect(instructions.work?.postInstall).toEqual({
    hostname: 'n1-turin',
    network: { mode: 'static', prefixLength: 24, gateway: '10.77.0.1', dns: [] },
    newHostKeys: false,
    newMachineId: false,
    authorizedKeys: [],
    writeFstab: false,
    growLast: false,
    installBootLoader: false,
    cloudInit: { userData: '#cloud-config\nfqdn: n1.turin {{ v1.region }} 24 10.77.0.1 debian:12' },
    scripts: [
      {
        name: 'a',
        where: 'chroot',
        timeoutMs: 300_000,
        text: `echo n1 10.77.0.11 52:54:00:00:00:01 ${id} http://10.77.0.1:7780`,
      },
      { name: 'b', where: 'chroot', timeoutMs: 300_000, text: 'echo {{host}} of {{rollout}}' },
      { name: 'c', where: 'chroot', timeoutMs: 300_000, text: 'echo {{host}}' },
    ],
  })
})

test('a hostname that no machine can have is refused before the machine is switched', async () => {
  await put(`${whole}<post-install><hostname>{{host}}_{{site}}</hostname></post-install>`)
  await expect(control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)).rejects.toMatchObject({
    code: 'bad-input',
    message: 'n1: the hostname of the setup becomes `n1_turin`, which no machine can have',
  })
})

test('another disk than the proven one is refused until it is accepted, and is then the proven one too', async () => {
  await put(whole)
  const first = await deploy('n1', [vda])
  expect(first.work?.approvedDisks).toBeUndefined()
  await first.prove()
  expect((await plan()).hosts[0]?.disks).toMatchObject([{ standing: 'approved' }])

  const other = { ...vda, serial: 'Z9' }
  await see('n1', other)
  const { canStart, hosts } = await plan()
  expect(canStart).toBe(false)
  expect(hosts[0]).toMatchObject({
    disks: [{ standing: 'new' }],
    refusals: [{ code: 'disk-changed', message: [expect.stringMatching(/serial Z9.*proven one is.*serial A1/)] }],
  })
  await expect(control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)).rejects.toMatchObject({
    code: 'disk-changed',
  })
  expect((await plan({ acceptNewDisk: true })).canStart).toBe(true)
  const second = await deploy('n1', [other], { acceptNewDisk: true })
  expect(second.work?.approvedDisks).toBeUndefined()
  await second.prove()

  const third = await deploy('n1', [other])
  const { host } = await control.getHost({ name: 'n1' }, admin)
  expect(third.work?.approvedDisks).toEqual(host.approvedDisks)
  expect(host.approvedDisks).toEqual([
    { name: 'system', sizeBytes: vda.sizeBytes, serial: 'A1' },
    { name: 'system', sizeBytes: vda.sizeBytes, serial: 'Z9' },
  ])
})

test('a host that has lost its address since the plan ends its deployment with the reason', async () => {
  await put(`${whole}<post-install><network mode="static" prefix="24"/></post-install>`)
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  const id = rollout.deployments[0]?.id ?? 0
  await control.changeHost({ name: 'n1', interfaces: [{ mac: '52:54:00:00:00:01' }] }, admin)
  const token = await armDeployment(world, id)
  const registration = { host: 'n1', agent: '11111111-1111-4111-8111-111111111111', agentVersion: '1' }
  const { instructions } = await service.registerHost({ ...registration, inventory: exampleInventory }, bearer(token))
  expect(instructions).toMatchObject({ action: 'stop', reason: 'deployment 1 of n1 is failed' })
  expect((await control.getDeployment({ deployment: id }, admin)).deployment).toMatchObject({
    state: 'failed',
    failedStep: 'inventory',
    failure: { code: 'bad-input', message: [expect.stringMatching(/no ip of the host/)] },
  })
  expect((await control.listBoot({ nodeset: 'n1' }, admin)).records).toMatchObject([{ target: 'local' }])
})
