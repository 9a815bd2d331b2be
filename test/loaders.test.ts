// Every loader end to end on real firmware: a BIOS machine sent on to pxelinux and a UEFI machine whose network card brings
// iPXE boot the scout, are deployed, and then boot their disk although the network comes first in their boot order.
// (test/deploy-one.test.ts has iPXE under BIOS and GRUB under UEFI.) Before that: an image that is damaged on the origin.
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, type Cluster, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import type { DeploymentView } from '../src/contract/types.ts'
import { parseManifest } from '../src/image/manifest.ts'
import { until } from '../src/lib/until.ts'

const root = join(import.meta.dirname, '..')

const config = readLabConfig(`
network: hades-loaders
subnet: 10.79.0.0/24
machines:
  - { name: n03, firmware: bios, memory: 1024, disks: [2GiB], address: 10.79.0.13, bmc: 10.79.0.103 }
  - { name: n04, firmware: uefi, rom: ipxe, memory: 1024, disks: [2GiB], address: 10.79.0.14, bmc: 10.79.0.104 }
`)

let folder: string
let cluster: Cluster

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-loaders-'))
  cluster = await openCluster(config, folder, { address: '10.79.0.1' })
  await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
  await cluster.control.changeHost({ name: 'n03', loader: 'pxelinux' })
  await publish(cluster, join(root, 'build', 'os-image', 'current', 'debian.raw'), 'debian:12')
  await cluster.control.putSetup({ xml: await readFile(join(root, 'examples', 'debian.xml'), 'utf8') })
})
afterAll(async () => {
  await cluster?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

async function deploy(nodeset: string): Promise<readonly DeploymentView[]> {
  const { rollout } = await cluster.control.startRollout({ nodeset, setup: 'debian' })
  return await until(
    `the rollout of ${nodeset}`,
    async () => {
      const now = (await cluster.control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now.deployments
    },
    { timeoutMs: 600_000, everyMs: 500 },
  )
}

/** Turns over one byte in the middle of a frame of the published image; turns it back when called again. */
async function flipByte(frame: number): Promise<void> {
  const [image] = (await cluster.control.listImages({})).images
  const published = join(cluster.dataFolder, 'images', image?.digest ?? '')
  const manifest = parseManifest(await readFile(join(published, 'manifest.json')), image?.digest ?? '')
  const { offset, length } = manifest.frames[frame] ?? { offset: 0, length: 0 }
  const file = await open(join(published, 'image.zst'), 'r+')
  const at = offset + Math.floor(length / 2)
  const byte = Buffer.alloc(1)
  await file.read(byte, 0, 1, at)
  await file.write(Buffer.from([byte.readUInt8() ^ 0xff]), 0, 1, at)
  await file.close()
}

test('a byte flipped on the origin fails the deployment with the frame named, and the disk does not boot', async () => {
  await flipByte(1)
  const [deployment] = await deploy('n03')
  expect(deployment).toMatchObject({ state: 'failed', failedStep: 'transfer', failure: { code: 'image-corrupt' } })
  expect(deployment?.failure?.message.join(' ')).toMatch(/frame 1\b/)
  expect(deployment?.log).toBeTruthy()
  const disk = await open(cluster.lab.machines[0]?.diskFiles[0] ?? '')
  const firstMiB = Buffer.alloc(2 ** 20)
  await disk.read(firstMiB, 0, firstMiB.length, 0)
  await disk.close()
  expect(firstMiB.every((byte) => byte === 0)).toBe(true)
  await flipByte(1)
})

test('pxelinux under BIOS and iPXE under UEFI bring a machine through, and to its disk afterwards', async () => {
  const deployments = await deploy('n[03-04]')
  for (const deployment of deployments) {
    expect(deployment, JSON.stringify(deployment)).toMatchObject({ state: 'done' })
    const { host } = deployment
    const eventsOfHost = async () => (await cluster.control.listEvents({ nodeset: host, limit: 10_000 })).events
    const scripts = async () => (await eventsOfHost()).filter(({ kind }) => kind === 'boot-script')
    expect((await scripts())[0]?.text).toContain(`its ${host === 'n03' ? 'pxelinux' : 'ipxe'} script`)
    // One that hung at its reset was booted from its disk by the engine: what it asks of the network takes one boot more.
    if ((await eventsOfHost()).some(({ kind }) => kind === 'nudged')) {
      await cluster.power.setPower({ nodeset: host, action: 'cycle' })
    }
    const isSentOn = async () => (await scripts()).at(-1)?.text.includes('boots local')
    await until(`${host} to be sent to its disk`, isSentOn, { timeoutMs: 180_000 })
  }
})
