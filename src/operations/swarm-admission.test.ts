import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { addImage } from '../db/images.ts'
import { readForms } from '../image/forms.ts'
import { importImage } from '../image/import.ts'
import { makeDisk, stream } from '../image/testing.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { pieceCount } from '../model/swarm.ts'
import { announceWord } from '../model/token.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { type SwarmAdmission, swarmAdmission } from './swarm-admission.ts'
import { armDeployment, exampleInventory, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let admit: ReturnType<typeof swarmAdmission>
beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  admit = swarmAdmission(world, { isOpen: false })
})
afterEach(async () => {
  await world.close()
})

/** Publishes an image and a setup of that name, and returns the torrent's info-hash and pieces. */
async function publish(name: string): Promise<{ infoHash: string; pieces: number }> {
  const disk = makeDisk()
  disk.write(name, 2 ** 20)
  const { digest } = await importImage({ source: stream(disk), folder: world.library.folder })
  const size = disk.length
  await addImage(world.db, {
    name,
    version: '1',
    digest,
    size_bytes: size,
    data_bytes: size,
    stored_bytes: size,
    published_at: 0,
  })
  const xml = `<setup xmlns="urn:hades:setup:1" name="${name}"><disk><image>${name}:1</image></disk></setup>`
  await control.putSetup({ xml }, admin)
  const forms = await readForms(world.library, digest)
  return { infoHash: forms.infoHash, pieces: pieceCount(forms) }
}

async function addHost(name: string, last: number): Promise<void> {
  const interfaces = [{ mac: `52:54:00:00:00:0${last}`, ip: `10.77.0.${last}` }]
  await control.addHost(
    { name, site: 'berlin', rack: 'r1', interfaces, powerMethods: [{ driver: 'manual', options: [] }] },
    admin,
  )
}

/** Brings a host to where its agent works; its session key. */
async function startAgent(host: string, setup: string): Promise<string> {
  const { rollout } = await control.startRollout({ nodeset: host, setup }, admin)
  const token = await armDeployment(world, rollout.deployments[0]?.id ?? 0)
  const agent = '11111111-1111-4111-8111-111111111111'
  const input = { host, agent, agentVersion: '1', inventory: exampleInventory }
  const caller: Caller = { kind: 'bearer', token, address: '10.77.0.1' }
  const { sessionKey } = await serviceHandlers(world).registerHost(input, caller)
  return announceWord(new Secret(sessionKey)).reveal()
}

const reasonOf = (admission: SwarmAdmission) => (admission.kind === 'refused' ? admission.reason : admission.kind)

test('an agent is admitted by its session key to the swarm of its image, and to no other', async () => {
  const [debian, alma] = [await publish('debian'), await publish('alma')]
  await addHost('n1', 1)
  const token = await startAgent('n1', 'debian')
  const asking = { address: '10.99.0.1', token }
  expect(await admit({ ...asking, infoHash: debian.infoHash })).toMatchObject({
    kind: 'agent',
    host: 'n1',
    site: 'berlin',
    rack: 'r1',
    pieces: debian.pieces,
  })
  expect(reasonOf(await admit({ ...asking, infoHash: alma.infoHash }))).toBe(
    'the deployment of n1 fetches another image',
  )
})

test('a session key that is not known yet is looked for at once, one that is over is forgotten soon', async () => {
  const { infoHash } = await publish('debian')
  await addHost('n1', 1)
  await addHost('n2', 2)
  const asking = { address: '10.99.0.1', infoHash }
  const first = await startAgent('n1', 'debian')
  expect((await admit({ ...asking, token: first })).kind).toBe('agent')
  const second = await startAgent('n2', 'debian')
  await until(
    'the second agent is admitted',
    async () => (await admit({ ...asking, token: second })).kind === 'agent',
    {
      timeoutMs: 900,
      everyMs: 20,
    },
  )
  await world.db.updateTable('deployments').set({ state: 'cancelled' }).execute()
  await until('the first is refused', async () => (await admit({ ...asking, token: first })).kind === 'refused', {
    timeoutMs: 5000,
  })
  expect(reasonOf(await admit({ ...asking, token: first }))).toContain('not the one of a deployment under way')
})

test('a stock client is admitted from the address of a host that fetches the image', async () => {
  const { infoHash } = await publish('debian')
  await addHost('n1', 1)
  await addHost('n2', 2)
  await startAgent('n1', 'debian')
  expect(await admit({ infoHash, address: '10.77.0.1', token: undefined })).toMatchObject({
    kind: 'stranger',
    host: 'n1',
  })
  expect(reasonOf(await admit({ infoHash, address: '10.77.0.2', token: undefined }))).toContain(
    'no host with the address',
  )
})

test('anyone is admitted to the swarm of a published image when it is open, and to no other', async () => {
  const { infoHash, pieces } = await publish('debian')
  const open = swarmAdmission(world, { isOpen: true })
  expect(await open({ infoHash, address: '192.0.2.7', token: undefined })).toMatchObject({
    kind: 'stranger',
    host: undefined,
    site: undefined,
    rack: undefined,
    pieces,
  })
  const other = 'ab'.repeat(20)
  expect(reasonOf(await open({ infoHash: other, address: '192.0.2.7', token: undefined }))).toContain(
    'no published image',
  )
})

test('an image whose files are broken does not keep others from being tracked', async () => {
  await addImage(world.db, {
    name: 'broken',
    version: '1',
    digest: 'd'.repeat(64),
    size_bytes: 1,
    data_bytes: 1,
    stored_bytes: 1,
    published_at: 0,
  })
  const { infoHash } = await publish('debian')
  const open = swarmAdmission(world, { isOpen: true })
  expect((await open({ infoHash, address: '192.0.2.7', token: undefined })).kind).toBe('stranger')
})
