// What a machine that is no host may do with the token that its scout was told: say once what it is, and nothing else.
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { StrangersRequest } from '../boot/resolve.ts'
import { bootResolver } from '../boot/resolve.ts'
import { inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import type { Caller, PortClient } from '../contract/operation.ts'
import type { Inventory } from '../contract/types.ts'
import { recordSighting } from '../db/discovered.ts'
import type { Failure } from '../model/failure.ts'
import { newNonce, reportTokenMs } from '../model/token.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import {
  armDeployment,
  armReport,
  exampleInventory,
  fillDiscovered,
  nameImage,
  openTestWorld,
  type TestWorld,
} from './testing.ts'

let world: TestWorld
let control: PortClient<typeof controlPort.operations>
let asked: StrangersRequest[]
let scriptFor: (mac: string) => Promise<string>
beforeEach(async () => {
  world = await openTestWorld()
  control = inProcess(controlPort, controlHandlers(world))
  asked = []
  scriptFor = loaderOf(world, asked)
})
afterEach(() => world.close())

const mac = '52:54:00:00:00:99'
const other = '52:54:00:00:00:98'
const [first, second] = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222']
const bearer = (token: string): Caller => ({ kind: 'bearer', token, address: '10.77.0.66' })
const inventory: Inventory = {
  ...exampleInventory,
  vendor: 'Acme',
  interfaces: [
    { name: 'eth1', mac: '52:54:00:00:00:9A', carrier: false },
    { name: 'eth0', mac, carrier: true },
    { name: 'usb0', mac: '02:00:00:00:00:01', driver: 'cdc_ether', carrier: true },
  ],
}

/** What the loader of a machine is told that asks with this MAC address. */
function loaderOf({ db, now, keyring, bootBase }: TestWorld, asked: StrangersRequest[]) {
  const nowhere = join('/', 'nowhere')
  const resolve = bootResolver({
    db,
    now,
    keyring,
    folders: { loaders: nowhere, scout: nowhere, netboot: nowhere },
    stage2Sha256: 'abc',
    imageKey: 'KEY',
    httpBase: bootBase,
    scoutArgs: [],
    onScript: () => {},
    onStranger: (request) => asked.push(request),
  })
  return async (of: string): Promise<string> => {
    const content = await resolve({ via: 'tftp', path: `grub/${of.replaceAll(':', '-')}`, peerAddress: '10.77.0.66' })
    return content?.kind === 'rendered' ? content.body : ''
  }
}

const tokenIn = (script: string): string => /hades\.token=(\S+?)[;\s]/.exec(script)?.[1] ?? ''

async function report(token: string, { of = mac, agent = first, version = '1', says = inventory } = {}) {
  const input = { mac: of, agent, agentVersion: version, inventory: says }
  return await serviceHandlers(world)
    .reportDiscovered(input, bearer(token))
    .catch((error: Failure) => error.code)
}

test('a machine that nobody knows boots the scout, reports once, is listed, and boots its disk from then on', async () => {
  await control.setDiscovery({ policy: 'scout' })
  const script = await scriptFor(mac)
  expect(script).toContain(`hades.mac=${mac}`)
  expect(script).toContain('hades.agent=report')
  expect(script).not.toMatch(/hades\.(host|key)=/)
  // A loader may ask twice in one boot.
  expect(tokenIn(await scriptFor(mac))).toBe(tokenIn(script))
  // And so does another service, or this one after its restart.
  expect(tokenIn(await loaderOf(world, [])(mac))).toBe(tokenIn(script))
  expect(await report(tokenIn(script))).toEqual({})
  const { machines } = await control.listDiscovered({})
  const found = 'Acme, uefi, 2 CPU, 1 GiB, 1 disk of 4 GiB, 3 interfaces'
  expect(machines).toMatchObject([{ mac, state: 'waiting', found, reportedAt: expect.any(String) }])
  expect(await control.getDiscovered({ mac })).toMatchObject({ machine: { found }, inventory })
  expect(await scriptFor(mac)).not.toContain('vmlinuz')
  expect(asked.map(({ answer }) => answer)).toEqual(['scout', 'scout', 'local'])
  const { events } = await control.listEvents({ kinds: ['machine-reported'] })
  expect(events).toMatchObject([{ text: expect.stringContaining(mac) }])
})

test('one that is ignored boots its disk, and one that is forgotten is looked at anew', async () => {
  await control.setDiscovery({ policy: 'scout' })
  const token = tokenIn(await scriptFor(mac))
  await control.ignoreDiscovered({ mac })
  expect(await scriptFor(mac)).not.toContain('hades.token')
  await control.ignoreDiscovered({ mac, ignore: false })
  await report(token)
  await control.forgetDiscovered({ mac: mac.toUpperCase() })
  await expect(control.getDiscovered({ mac })).rejects.toMatchObject({ code: 'unknown-machine' })
  await expect(control.forgetDiscovered({ mac })).rejects.toMatchObject({ code: 'unknown-machine' })
  const next = tokenIn(await scriptFor(mac))
  expect(next).not.toBe(token)
  expect(await report(token)).toBe('token-refused')
  expect(await report(next)).toEqual({})
})

test('approval takes over the reported interfaces and the inventory, and leaves no machine behind', async () => {
  await report(await armReport(world, mac))
  await recordSighting(world.db, { mac: '52:54:00:00:00:9a', source: 'dhcp', said: 'asked' }, world.now())
  const { host } = await control.approveDiscovered({ mac, name: 'n9', ip: '10.0.0.9' })
  expect(host.interfaces).toEqual([{ mac, ip: '10.0.0.9' }, { mac: '52:54:00:00:00:9a' }])
  expect(host).toMatchObject({ inventory: { vendor: 'Acme' }, inventoryAt: expect.any(String) })
  expect((await control.getHost({ name: 'n9' })).host).toEqual(host)
  expect((await control.listDiscovered({})).machines).toEqual([])
})

test('a host that booted by another card is told of in its timeline; as a machine of its own it is not approved, and stays', async () => {
  await control.addHost({ name: 'n1', interfaces: [{ mac: '52:54:00:00:00:9a' }], powerMethods: [] })
  await report(await armReport(world, mac))
  const { events } = await control.listEvents({ nodeset: 'n1', kinds: ['machine-reported'] })
  expect(events).toMatchObject([{ text: expect.stringContaining(`has an interface of host n1 (from ${mac})`) }])
  const failure = { code: 'already-exists', message: expect.stringContaining('belongs to host n1') }
  await expect(control.approveDiscovered({ mac, name: 'n9' })).rejects.toMatchObject(failure)
  expect(await control.getDiscovered({ mac })).toMatchObject({ inventory: { vendor: 'Acme' } })
})

test('the token opens no other operation, of no other machine, and not after its time, its use or the approval', async () => {
  await control.addHost({
    name: 'n1',
    interfaces: [{ mac: '52:54:00:00:00:01' }],
    powerMethods: [{ driver: 'manual', options: [] }],
  })
  await nameImage(world, 'debian', '12')
  await control.putSetup({
    xml: '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>',
  })
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo', acceptNewDisk: true })
  const deployment = rollout.deployments[0]?.id ?? 0
  const armed = await armDeployment(world, deployment)
  const token = await armReport(world, mac)
  const service = serviceHandlers(world)
  const registration = { agent: first, agentVersion: '1', inventory }
  const refused = { code: 'token-refused' }
  await expect(service.registerHost({ ...registration, host: 'n1' }, bearer(token))).rejects.toMatchObject(refused)
  await expect(service.getInstructions({ deployment }, bearer(token))).rejects.toMatchObject(refused)
  const capture = { deployment, sizeBytes: 1, sectorBytes: 512 }
  await expect(service.beginCapture(capture, bearer(token))).rejects.toMatchObject(refused)
  // Nor does the token of a deployment report for anybody, a host included.
  for (const of of [mac, '52:54:00:00:00:01']) expect(await report(armed, { of })).toBe('token-refused')
  await armReport(world, other)
  expect(await report(token, { of: other })).toBe('token-refused')
  expect(await report(token, { of: '52:54:00:00:00:97' })).toBe('token-refused')
  world.clock.offsetMs = reportTokenMs
  expect(await report(token)).toBe('token-refused')
  world.clock.offsetMs = 0
  expect(await report(token)).toEqual({})
  expect(await report(token)).toEqual({})
  expect(await report(token, { agent: second })).toBe('token-refused')
  await control.approveDiscovered({ mac, name: 'n9' })
  expect(await report(token)).toBe('token-refused')
})

test('a machine that was approved while its scout started is a host: its report is refused, and it gets no work', async () => {
  await control.setDiscovery({ policy: 'scout' })
  const token = tokenIn(await scriptFor(mac))
  await control.approveDiscovered({ mac, name: 'n9' })
  expect(await report(token)).toBe('token-refused')
  expect(await scriptFor(mac)).not.toContain('hades.token')
})

test('of two agents that report at once with one token one is heard', async () => {
  const token = await armReport(world, mac)
  const answers = await Promise.all([report(token), report(token, { agent: second })])
  expect(answers.filter((answer) => typeof answer === 'object')).toHaveLength(1)
})

test('an inventory beyond its bound and an agent of before are refused, and nothing of them is kept', async () => {
  const token = await armReport(world, mac)
  const label = 'x'.repeat(190)
  const disk = { path: '/dev/vda', sizeBytes: 1, sectorBytes: 512, rotational: false, serial: label, model: label }
  const disks = Array.from({ length: 256 }, () => disk)
  expect(await report(token, { says: { ...inventory, disks } })).toBe('too-large')
  expect(await report(token, { version: '0.0.1' })).toBe('agent-too-old')
  expect((await control.getDiscovered({ mac })).inventory).toBeUndefined()
})

test('a token of before the key was replaced gives way to a new one', async () => {
  await control.setDiscovery({ policy: 'scout' })
  const old = await armReport(world, mac, newNonce({ ids: ['00000000'] }))
  expect(old).toBe('')
  expect(await report(tokenIn(await scriptFor(mac)))).toEqual({})
})

test('forged addresses are told to wait when they are too many', async () => {
  await control.setDiscovery({ policy: 'scout' })
  const beganMs = performance.now()
  for (let i = 0; i < 260; i += 1) await scriptFor(`02:00:00:00:0${i >> 8}:${(i & 255).toString(16).padStart(2, '0')}`)
  const told = asked.filter(({ answer }) => answer === 'scout').length
  expect(told + asked.filter(({ answer }) => answer === 'hold').length).toBe(260)
  expect(told).toBeLessThanOrEqual(201 + (5 * (performance.now() - beganMs)) / 1000)
  const { count } = await world.db
    .selectFrom('discovered')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  expect(count).toBe(told)
})

test('a machine that has reported outlasts a flood of addresses that were seen after it', async () => {
  await report(await armReport(world, mac))
  await fillDiscovered(world, 9_999, world.now())
  for (const forged of ['06:00:00:00:00:01', '06:00:00:00:00:02']) {
    await recordSighting(world.db, { mac: forged, source: 'dhcp', said: 'asked' }, world.now() + 60_000)
  }
  await expect(control.getDiscovered({ mac: '02:00:00:00:00:01' })).rejects.toMatchObject({ code: 'unknown-machine' })
  expect(await control.getDiscovered({ mac })).toMatchObject({ inventory: { vendor: 'Acme' } })
})
