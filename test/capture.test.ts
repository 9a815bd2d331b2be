// A machine that has lived becomes an image, and another machine gets it without that life: the disk of the first, with its
// machine-id, host keys and history, is captured repaired, and deployed to the second. The first one's disk stays as it is.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, type Cluster, eventsOf, openCluster } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import type { CaptureView } from '../src/contract/capture-types.ts'
import type { DeploymentView } from '../src/contract/types.ts'
import { unmount } from '../src/lib/block-devices.ts'
import { until } from '../src/lib/until.ts'

const osImage = join(import.meta.dirname, '..', 'build', 'os-image', 'current')
const machineId = '0123456789abcdef0123456789abcdef'

const config = readLabConfig(`
network: hades-capture
subnet: 10.81.0.0/24
machines:
  - { name: a01, firmware: bios, memory: 1024, disks: [1GiB], address: 10.81.0.11, bmc: 10.81.0.101 }
  - { name: b01, firmware: bios, memory: 1024, disks: [2GiB], address: 10.81.0.12, bmc: 10.81.0.102 }
`)

let folder: string
let cluster: Cluster
let hostKeyOfA: string
let diskOfA: { readonly before: string; readonly after: string }
let capture: CaptureView
let deployment: DeploymentView

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

/** Puts the demo's Debian on a disk, and a life on it. */
async function live(file: string): Promise<string> {
  await execa('cp', ['--sparse=always', join(osImage, 'debian.raw'), file])
  const root = join(folder, 'root')
  const { stdout } = await execa('sfdisk', ['--json', file])
  const { start } = JSON.parse(stdout).partitiontable.partitions[2] as { start: number }
  await execa('mkdir', ['-p', root])
  await execa('mount', ['-o', `loop,offset=${start * 512}`, file, root])
  try {
    const script = `echo ${machineId} >etc/machine-id; echo golden >etc/made-by-hand
      echo 'mysql --password=hunter2' >root/.bash_history
      echo 'SUBSYSTEM=="net", NAME="eth7"' >etc/udev/rules.d/70-persistent-net.rules
      ssh-keygen -q -t ed25519 -N '' -f etc/ssh/ssh_host_ed25519_key; head -c 3000000 /dev/urandom >var/log/old.log`
    await execa('sh', ['-ec', script], { cwd: root })
    return (await readFile(join(root, 'etc/ssh/ssh_host_ed25519_key.pub'), 'utf8')).split(' ')[1] ?? ''
  } finally {
    await unmount(root)
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-capture-'))
  cluster = await openCluster(config, folder, { address: '10.81.0.1' })
  await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
  const [file = ''] = cluster.lab.machines[0]?.diskFiles ?? []
  hostKeyOfA = await live(file)
  const before = await sha256(file)
  const started = await cluster.control.startCapture({
    host: 'a01',
    image: 'golden:1',
    repair: true,
    finish: 'poweroff',
  })
  capture = await until(
    'the captured image',
    async () => {
      const now = (await cluster.control.getCapture({ deployment: started.capture.deployment.id })).capture
      return now.deployment.endedAt === undefined ? undefined : now
    },
    { timeoutMs: 400_000, everyMs: 250 },
  )
  if (capture.deployment.state !== 'done') throw new Error(JSON.stringify(capture.deployment, undefined, 2))
  diskOfA = { before, after: await sha256(file) }
  const xml = `<setup xmlns="urn:hades:setup:1" name="golden">
    <disk><image>golden:1</image></disk>
    <transfer engine="http"/>
    <probe><tcp port="22" expect="SSH-2.0"/></probe>
  </setup>`
  await cluster.control.putSetup({ xml })
  const { rollout } = await cluster.control.startRollout({ nodeset: 'b01', setup: 'golden' })
  deployment = await until(
    'the second machine',
    async () => {
      const [now] = (await cluster.control.getRollout({ rollout: rollout.id })).rollout.deployments
      return now?.endedAt === undefined ? undefined : now
    },
    { timeoutMs: 400_000, everyMs: 250 },
  )
})

afterAll(async () => {
  await cluster?.close()
  await rm(folder, { recursive: true, force: true })
})

test('the image is published, and the machine that was captured has the disk that it had', () => {
  expect(capture).toMatchObject({ image: 'golden:1', sizeBytes: 2 ** 30, frames: 256 })
  expect(diskOfA.after).toBe(diskOfA.before)
  // The view that was repaired says what is free as the disk itself would.
  expect(capture.report?.bytesFree).toBeGreaterThan(256 * 1024 * 1024)
})

test('what belonged to the machine was found and mended in the image', async () => {
  const { image } = await cluster.control.getImage({ reference: 'golden:1' })
  expect(image).toMatchObject({ digest: capture.digest, hygiene: capture.report?.hygiene })
  expect(image.hygiene?.systems).toMatchObject([{ place: 'partition 3', filesystem: 'ext4' }])
  const mended = image.hygiene?.findings.filter(({ repaired }) => repaired).map(({ path }) => path)
  expect(mended).toEqual([
    '/etc/machine-id',
    '/etc/ssh/ssh_host_ed25519_key',
    '/etc/ssh/ssh_host_ed25519_key.pub',
    '/etc/udev/rules.d/70-persistent-net.rules',
    '/root/.bash_history',
    '/var/log',
  ])
})

test('the timeline tells the capture from the order to the image', async () => {
  const kinds = (await eventsOf(cluster, capture.deployment.id)).map(({ kind }) => kind)
  const story = [
    'capture-started',
    'powering',
    'booting',
    'registered',
    'disk-chosen',
    'hygiene',
    'free-space',
    'image-published',
    'done',
  ]
  expect(kinds.filter((kind) => story.includes(kind))).toEqual(story)
})

test('another machine boots the image with an identity of its own', async () => {
  expect(deployment.state).toBe('done')
  const ssh = ['ssh', '-i', join(osImage, 'id_ed25519'), '-o', 'StrictHostKeyChecking=no']
  const look = 'hostname; cat /etc/machine-id /etc/made-by-hand; cut -d" " -f2 /etc/ssh/ssh_host_ed25519_key.pub'
  const options = ['-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR', 'root@10.81.0.12']
  const said = await until('SSH', () => cluster.inside(...ssh, ...options, `${look}; ls -A /root`), {
    timeoutMs: 60_000,
  })
  const [name, id, mark, hostKey, ...rest] = said.split('\n')
  expect([name, mark]).toEqual(['b01', 'golden'])
  expect(id).toMatch(/^[0-9a-f]{32}$/)
  expect(id).not.toBe(machineId)
  expect(hostKey).not.toBe(hostKeyOfA)
  expect(rest).not.toContain('.bash_history')
})
