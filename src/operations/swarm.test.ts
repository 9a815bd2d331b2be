import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import type { TransferCounts } from '../contract/types.ts'
import { importImage } from '../image/import.ts'
import { makeDisk, stream } from '../image/testing.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, exampleProof, nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const bearer = (token: string): Caller => ({ kind: 'bearer', token, address: '10.77.0.11' })
const stored = 2 ** 27

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let service: ReturnType<typeof serviceHandlers>
/** Each host's way to report, by its number from 1. */
let agents: { deployment: number; caller: Caller }[]

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  service = serviceHandlers(world)
  agents = []
  await nameImage(world, 'debian', '12')
})
afterEach(async () => {
  await world.close()
})

const setupXml = (transfer = '') =>
  `<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk>${transfer}</setup>`

/** Starts a rollout to `count` hosts, whose agents have registered. */
async function roll(count: number, policy: { engine?: 'swarm' | 'http'; egressBytesPerSecond?: number } = {}) {
  for (let n = 1; n <= count; n += 1) {
    const interfaces = [{ mac: `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`, ip: `10.77.0.${10 + n}` }]
    const place = { site: n === 1 ? 'home' : 'away', rack: 'r1' }
    await control.addHost(
      { name: `n${n}`, ...place, interfaces, powerMethods: [{ driver: 'manual', options: [] }] },
      admin,
    )
  }
  const { rollout } = await control.startRollout(
    { nodeset: '*', setup: 'demo', confirm: String(count), ...policy },
    admin,
  )
  const orders = []
  const redeploys = []
  for (const { id, host } of rollout.deployments) {
    const token = await armDeployment(world, id)
    const agent = `11111111-1111-4111-8111-${String(id).padStart(12, '0')}`
    const input = { host, agent, agentVersion: '1', inventory: exampleInventory }
    const { sessionKey, instructions } = await service.registerHost(input, bearer(token))
    agents.push({ deployment: id, caller: bearer(sessionKey) })
    orders.push(instructions.work?.images[0]?.transfer)
    redeploys.push(instructions.work?.redeploy)
  }
  return { rollout, orders, redeploys }
}

/** Gives debian:12 bytes, so that it has a torrent; its digest. */
async function fillImage(): Promise<string> {
  const { digest } = await importImage({ source: stream(makeDisk()), folder: world.library.folder })
  await world.db.updateTable('images').set({ digest }).execute()
  return digest
}

function counts(bytes: number, fromOriginBytes: number, source = 'origin'): TransferCounts {
  return {
    engine: 'swarm',
    receivedBytes: bytes,
    verifiedBytes: bytes,
    writtenBytes: bytes,
    durableBytes: 0,
    fromOriginBytes,
    fromPeersBytes: bytes - fromOriginBytes,
    toPeersBytes: 7,
    ramBytes: 0,
    spilledBytes: 0,
    sources: [{ name: source, bytes }],
    uploads: [],
  }
}

async function report(n: number, transfer: TransferCounts): Promise<void> {
  const { deployment, caller } = agents[n - 1] ?? { deployment: 0, caller: admin }
  const progress = { doneBytes: transfer.writtenBytes * 8, totalBytes: 2 ** 30, bytesPerSecond: 1 }
  await service.reportProgress({ deployment, step: 'transfer', ...progress, transfer }, caller)
}

test('the policy is the setup’s, and what the rollout says otherwise', async () => {
  await control.putSetup({ xml: setupXml('<transfer engine="aria2" egress="50MB/s" ingress="1MB/s"/>') }, admin)
  const { rollout } = await roll(1, { engine: 'http', egressBytesPerSecond: 2000 })
  expect(rollout).toMatchObject({
    engine: 'http',
    egressBytesPerSecond: 2000,
    ingressBytesPerSecond: 1_000_000,
    lingerSeconds: 60,
  })
})

test('whether disks are compared first is the setup’s word, unless the rollout says otherwise', async () => {
  await control.putSetup({ xml: setupXml('<transfer redeploy="auto"/>') }, admin)
  const { rollout, redeploys } = await roll(1)
  expect([rollout.redeploy, redeploys]).toEqual(['auto', ['auto']])
  await control.cancelRollout({ rollout: rollout.id }, admin)
  const again = await control.startRollout({ nodeset: 'n1', setup: 'demo', redeploy: 'difference' }, admin)
  expect(again.rollout.redeploy).toBe('difference')
})

test('by HTTP there is nothing to share: no info-hash, no lingering', async () => {
  await control.putSetup({ xml: setupXml('<transfer engine="http"/>') }, admin)
  const { orders } = await roll(1)
  expect(orders[0]).toMatchObject({ engine: 'http', lingerSeconds: 0 })
  expect(orders[0]).not.toHaveProperty('infoHash')
})

test('an image that has no torrent goes by HTTP, and the timeline says so', async () => {
  await control.putSetup({ xml: setupXml() }, admin)
  const { orders } = await roll(1)
  expect(orders[0]).toMatchObject({ engine: 'http' })
  const { events } = await control.listEvents({ nodeset: 'n1' }, admin)
  expect(events.at(-1)).toMatchObject({ kind: 'engine-changed', text: expect.stringMatching(/no torrent.*by http/) })
})

test('an agent is told the torrent and the narrowest of its own and its site’s caps', async () => {
  await control.putSetup({ xml: setupXml('<transfer linger="5min" egress="2MB/s"/>') }, admin)
  const digest = await fillImage()
  await control.setSite({ name: 'home', egressBytesPerSecond: 5_000_000, ingressBytesPerSecond: 3_000_000 }, admin)
  const { orders } = await roll(2)
  const base = `http://10.77.0.1:7780/images/${digest}`
  const common = {
    engine: 'swarm',
    infoHash: expect.stringMatching(/^[0-9a-f]{40}$/),
    torrentUrl: `${base}/image.torrent`,
    metalinkUrl: `${base}/image.meta4`,
    announceUrl: 'http://10.77.0.1:7780/announce',
    framesUrl: `${base}/frames`,
    egressBytesPerSecond: 2_000_000,
    lingerSeconds: 300,
  }
  expect(orders[0]).toEqual({
    ...common,
    siteEgressBytesPerSecond: 2_000_000,
    siteIngressBytesPerSecond: 3_000_000,
  })
  // The other site has no limits.
  expect(orders[1]).toEqual(common)
})

test('single blocks, which the origin alone gives, are offered to up to 64 hosts of a swarm, and to any number by HTTP', async () => {
  await control.putSetup({ xml: setupXml() }, admin)
  await fillImage()
  const { rollout, orders } = await roll(65)
  expect(orders[64]).toMatchObject({ engine: 'swarm' })
  expect(orders[64]).not.toHaveProperty('framesUrl')
  await control.cancelRollout({ rollout: rollout.id }, admin)
  const { deployments } = (
    await control.startRollout({ nodeset: 'n[1-65]', setup: 'demo', confirm: '65', engine: 'http' }, admin)
  ).rollout
  const [first] = deployments
  const token = await armDeployment(world, first?.id ?? 0, 'nonce-3')
  const agent = '33333333-3333-4333-8333-333333333333'
  const input = { host: first?.host ?? '', agent, agentVersion: '1', inventory: exampleInventory }
  const { work } = (await service.registerHost(input, bearer(token))).instructions
  expect(work?.images[0]?.transfer.framesUrl).toMatch(/\/frames$/)
})

test('a rollout under way keeps its image, whatever else is published or deployed meanwhile', async () => {
  await control.putSetup({ xml: setupXml() }, admin)
  const digest = await fillImage()
  const { rollout, orders } = await roll(1)
  const again = { reference: 'debian:12', path: '/dev/null' }
  await expect(control.publishImage(again, admin)).rejects.toMatchObject({ code: 'already-exists' })
  // Other bytes get another version; the setup that names them does not free those of the rollout.
  await nameImage(world, 'debian', '13')
  await control.putSetup({ xml: setupXml().replace('debian:12', 'debian:13') }, admin)
  await expect(control.removeImage({ reference: 'debian:12' }, admin)).rejects.toMatchObject({ code: 'in-use' })
  // An agent that was not answered asks again.
  const token = await armDeployment(world, rollout.deployments[0]?.id ?? 0, 'nonce-2')
  const agent = '22222222-2222-4222-8222-222222222222'
  const input = { host: 'n1', agent, agentVersion: '1', inventory: exampleInventory }
  const { work } = (await service.registerHost(input, bearer(token))).instructions
  expect(work?.images).toMatchObject([{ reference: 'debian:12', digest, transfer: orders[0] }])
})

test('by HTTP every host of a site gets its part of the site’s caps, because all of them fetch across its border', async () => {
  await control.putSetup({ xml: setupXml('<transfer engine="http" ingress="1MB/s"/>') }, admin)
  await control.setSite({ name: 'away', ingressBytesPerSecond: 900_000, egressBytesPerSecond: 1500 }, admin)
  await control.setSite({ name: 'home', ingressBytesPerSecond: 9_000_000 }, admin)
  const { orders } = await roll(4)
  expect(orders.map((order) => order?.siteIngressBytesPerSecond)).toEqual([1_000_000, 300_000, 300_000, 300_000])
  // Never below what a limit may be.
  expect(orders[1]?.siteEgressBytesPerSecond).toBe(1000)
})

test('sites are listed with their hosts and limits, and a limit that is not given again is gone', async () => {
  await control.putSetup({ xml: setupXml() }, admin)
  await roll(3)
  await control.setSite({ name: 'away', egressBytesPerSecond: 5000, ingressBytesPerSecond: 6000 }, admin)
  await control.setSite({ name: 'away', ingressBytesPerSecond: 7000 }, admin)
  await control.setSite({ name: 'unbuilt', egressBytesPerSecond: 8000 }, admin)
  expect((await control.listSites({}, admin)).sites).toEqual([
    { name: 'away', hosts: 2, ingressBytesPerSecond: 7000 },
    { name: 'home', hosts: 1 },
    { name: 'unbuilt', hosts: 0, egressBytesPerSecond: 8000 },
  ])
})

test('the swarm shows who has what from whom, the slowest first, and when it ends', async () => {
  await control.putSetup({ xml: setupXml() }, admin)
  const { rollout } = await roll(4)
  // n1 is the head, n2 behind it, n3 slow; n4 has not begun.
  for (let second = 0; second <= 20; second += 1) {
    await report(1, counts(second * 1e6, second * 1e6))
    await report(2, counts(second * 1e6, 0, '10.77.0.11'))
    await report(3, counts(second * 1e5, 0, '10.77.0.12'))
    world.clock.offsetMs += 1000
  }
  const { swarm } = await control.getSwarm({}, admin)
  expect(swarm).toMatchObject({
    rollout: rollout.id,
    setup: 'demo:1',
    engine: 'swarm',
    images: [{ storedBytes: stored }],
  })
  expect(swarm.totals).toMatchObject({
    hosts: 4,
    waiting: 1,
    running: 3,
    ended: 0,
    lost: 0,
    originBytes: 20e6,
    peersBytes: 22e6,
    copiesOutOfOrigin: 0.149,
  })
  expect(swarm.totals.receivedBytesPerSecond).toBeGreaterThan(1.9e6)
  expect(swarm.totals.receivedBytesPerSecond).toBeLessThan(2.3e6)
  expect(swarm.hosts.map(({ host, isSlow }) => [host, isSlow])).toEqual([
    ['n3', true],
    expect.anything(),
    expect.anything(),
    ['n4', false],
  ])
  expect(swarm.hosts.find(({ host }) => host === 'n2')).toMatchObject({
    site: 'away',
    rack: 'r1',
    step: 'transfer',
    doneBytes: 20e6,
    totalBytes: stored,
    predecessor: 'n1',
    fromOriginBytes: 0,
    fromPeersBytes: 20e6,
    toPeersBytes: 7,
  })
  // 114 MB at 1 MB/s; n4, which begins now at best, has all of it before it.
  const seconds = (at: string | undefined) => (Date.parse(at ?? '') - world.now()) / 1000
  expect(seconds(swarm.estimateEndAt)).toBeGreaterThan(stored / 1.15e6)
  expect(seconds(swarm.estimateEndAt)).toBeLessThan(stored / 0.9e6)
  expect(seconds(swarm.stragglersEndAt)).toBeGreaterThan(1000)
  expect((await control.getSwarm({ rollout: rollout.id, limit: 1 }, admin)).swarm.hosts).toHaveLength(1)
})

test('what came from where stays with the deployment, and the copies out of the origin with the rollout', async () => {
  await control.putSetup({ xml: setupXml() }, admin)
  const { rollout } = await roll(2)
  await report(1, counts(stored, stored))
  for (const [n, transfer] of [counts(stored, stored), counts(stored, stored / 4, '10.77.0.11')].entries()) {
    const { deployment, caller } = agents[n] ?? { deployment: 0, caller: admin }
    await service.completeDeployment({ deployment, proof: { ...exampleProof, transfer } }, caller)
  }
  const done = (await control.getRollout({ rollout: rollout.id }, admin)).rollout
  expect(done.copiesOutOfOrigin).toBe(1.25)
  expect(done.deployments[1]?.transfer).toMatchObject({ fromOriginBytes: stored / 4, fromPeersBytes: (stored * 3) / 4 })
  const { swarm } = await control.getSwarm({}, admin)
  expect(swarm.totals).toMatchObject({ ended: 2, running: 0, copiesOutOfOrigin: 1.25, receivedBytesPerSecond: 0 })
  expect(swarm).not.toHaveProperty('estimateEndAt')
})

test('without a rollout there is no swarm', async () => {
  await expect(control.getSwarm({}, admin)).rejects.toMatchObject({ code: 'unknown-rollout' })
  await expect(control.getSwarm({ rollout: 9 }, admin)).rejects.toMatchObject({ code: 'unknown-rollout' })
})
