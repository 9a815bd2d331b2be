// The setups of examples/ on real virtual machines, as they are but for the names of images and the deadlines, and disks erased
// at the end: two chains of machines at once, one with BIOS and one with UEFI. After each deployment the new system itself says
// what it lies on. LAYOUTS=all deploys every setup, paper and debian too, to both firmwares, each by one rollout.
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, type Cluster, eventsOf, openCluster } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import { exampleSetup, publishExampleImages, readWindowsMark, windowsMark } from '../lab/example-images.ts'
import type { LabMachine } from '../lab/lab.ts'
import { lookScript, readLook, type SeenSystem } from '../lab/look.ts'
import type { ErasureView } from '../src/contract/erase-types.ts'
import type { DeploymentView } from '../src/contract/types.ts'
import { until } from '../src/lib/until.ts'

const osImage = join(import.meta.dirname, '..', 'build', 'os-image', 'current')
const MiB = 1024 ** 2
const GiB = 1024 * MiB

const config = readLabConfig(`
network: hades-layout
subnet: 10.79.0.0/24
machines:
  - { name: n01, firmware: bios, memory: 1024, disks: [120GiB] }
  - { name: n02, firmware: uefi, memory: 1024, disks: [120GiB] }
  - { name: n03, firmware: bios, memory: 1024, disks: [{ size: 40GiB, bus: scsi }, { size: 40GiB, bus: scsi }] }
  - { name: n04, firmware: uefi, memory: 1024, disks: [{ size: 40GiB, bus: scsi }, { size: 40GiB, bus: scsi }] }
  - { name: n05, firmware: bios, memory: 1024, disks: [{ size: 2GiB, bus: nvme }, 1GiB] }
  - { name: n06, firmware: uefi, memory: 1024, disks: [{ size: 2GiB, bus: nvme }, 1GiB] }
`)

type Seen = { readonly host: string; readonly deployment: DeploymentView; readonly system: SeenSystem }
/** One setup on some machines by one rollout, or their disks erased, and what is asked of each afterwards. */
type Step =
  | { readonly setup: string; readonly hosts: readonly string[]; readonly check: (seen: Seen) => Promise<void> | void }
  | { readonly erase: 'secure' | 'discard'; readonly disk: string; readonly hosts: readonly string[] }

const both = {
  one: ['n01', 'n02'],
  pair: ['n03', 'n04'],
  flash: ['n05', 'n06'],
} as const

const chains: readonly (readonly Step[])[] =
  process.env.LAYOUTS === 'all'
    ? [
        [
          { setup: 'raid-lvm', hosts: both.pair, check: checkMirror },
          { erase: 'discard', disk: 'all', hosts: both.pair },
          { setup: 'data-kept', hosts: both.flash, check: checkDataKept },
          { erase: 'secure', disk: '/dev/nvme0n1', hosts: both.flash },
          { setup: 'side-by-side', hosts: both.one, check: checkProduction },
          { setup: 'side-by-side-development', hosts: both.one, check: checkDevelopment },
          { setup: 'paper', hosts: both.one, check: checkPaper },
          { setup: 'hadoop', hosts: both.one, check: checkHadoop },
          { setup: 'root-swap-data', hosts: both.one, check: checkUnpacked },
          { setup: 'debian', hosts: both.one, check: checkDebian },
          { setup: 'windows', hosts: ['n02'], check: checkWindows },
        ],
      ]
    : [
        [
          { setup: 'hadoop', hosts: ['n01'], check: checkHadoop },
          { setup: 'side-by-side', hosts: ['n01'], check: checkProduction },
          { setup: 'side-by-side-development', hosts: ['n01'], check: checkDevelopment },
          { setup: 'data-kept', hosts: ['n05'], check: checkDataKept },
          { erase: 'secure', disk: '/dev/nvme0n1', hosts: ['n05'] },
        ],
        [
          { setup: 'root-swap-data', hosts: ['n02'], check: checkUnpacked },
          { setup: 'windows', hosts: ['n02'], check: checkWindows },
          { setup: 'raid-lvm', hosts: ['n04'], check: checkMirror },
        ],
      ]

const firmwareOf = (host: string) => config.machines.find(({ name }) => name === host)?.firmware

function titleOf(step: Step): string {
  const what = 'setup' in step ? step.setup : `${step.erase} erase of ${step.disk}`
  return `${what} on ${step.hosts.map((host) => `${host} (${firmwareOf(host)})`).join(', ')}`
}

let folder: string
let cluster: Cluster
/** Whether a step failed: the service's log and database are left then. */
let hasFailed = false
/** How each step ended, by its title. */
const ends = new Map<string, Promise<void>>()

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-examples-'))
  cluster = await openCluster(config, folder, { address: '10.79.0.1' })
  await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
  await publishExampleImages(cluster, join(osImage, 'debian.raw'), folder)
  for (const host of both.flash) await putData(dataDiskOf(host))
  for (const chain of chains) {
    const steps = chain.map((step) => ({ step, end: Promise.withResolvers<void>() }))
    for (const { step, end } of steps) {
      end.promise.catch(() => {})
      ends.set(titleOf(step), end.promise)
    }
    void runChain(steps)
  }
})
afterAll(async () => {
  await cluster?.close()
  if (folder && !hasFailed) await rm(folder, { recursive: true, force: true })
})

test.each(chains.flat().map(titleOf))('%s', async (title) => {
  await ends.get(title)
})

async function runChain(steps: readonly { step: Step; end: PromiseWithResolvers<void> }[]): Promise<void> {
  for (const [index, { step, end }] of steps.entries()) {
    const next = steps[index + 1]?.step.hosts ?? []
    const idle = step.hosts.filter((host) => !next.includes(host))
    try {
      await ('setup' in step ? deployAndCheck(step) : eraseAndCheck(step))
      // The processors are for those that work.
      if (idle.length > 0) await cluster.power.setPower({ nodeset: idle.join(','), action: 'off' })
      end.resolve()
    } catch (error) {
      hasFailed = true
      end.reject(error)
    }
  }
}

/** Deploys a setup, also to disks that none has proven before, and has each new system looked at. */
async function deployAndCheck({ setup, hosts, check }: Extract<Step, { setup: string }>): Promise<void> {
  await cluster.control.putSetup({ xml: await exampleSetup(setup) })
  const { rollout } = await cluster.control.startRollout({ nodeset: hosts.join(','), setup, acceptNewDisk: true })
  const deployments = await until(
    `the new systems of ${setup}`,
    async () => {
      const now = (await cluster.control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now.deployments
    },
    { timeoutMs: 800_000, everyMs: 500 },
  )
  const problems = deployments.filter(({ state }) => state !== 'done')
  for (const { id, host } of problems) await tellStory(id, host)
  expect(problems.map(({ host, failure }) => ({ host, failure }))).toEqual([])
  await Promise.all(
    deployments.map(async (deployment) => {
      const { host } = deployment
      const system = await look(host)
      expect(system).toMatchObject({ firmware: firmwareOf(host), hostname: host })
      expect(system.machineId).toMatch(/^[0-9a-f]{32}$/)
      expectAsProven(deployment, system)
      await check({ host, deployment, system })
    }),
  )
}

/** What is left of a deployment that failed: its events and the last words of the machine. */
async function tellStory(deployment: number, host: string): Promise<void> {
  const events = (await eventsOf(cluster, deployment)).slice(-20).map(({ kind, text }) => `${kind}: ${text}`)
  const said = (await readFile(machineOf(host).consoleLog, 'latin1')).slice(-3000)
  console.error([`deployment ${deployment} of ${host}:`, ...events, said].join('\n'))
}

function machineOf(host: string): LabMachine {
  const machine = cluster.lab.machines.find(({ name }) => name === host)
  if (machine === undefined) throw new Error(`the lab has no ${host}`)
  return machine
}

/** Runs a command in the new system of a host. */
async function ssh(host: string, command: string): Promise<string> {
  const quiet = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR']
  const options = ['-i', join(osImage, 'id_ed25519'), ...quiet.flatMap((option) => ['-o', option])]
  return (await cluster.inside('ssh', ...options, `root@${machineOf(host).address}`, command)).trim()
}

/** Looks when the system has started all that it starts: its SSH server is there before its file systems are mounted. */
async function look(host: string): Promise<SeenSystem> {
  const isUp = async () => (await ssh(host, 'systemctl is-active multi-user.target || true')) === 'active'
  await until(`${host} to have started`, isUp, { timeoutMs: 180_000, everyMs: 1000 })
  return readLook(await ssh(host, lookScript))
}

/** What the proof says that a file system is called, the new system says too; of what was kept it names the UUID alone. */
function expectAsProven({ proof }: DeploymentView, { devices }: SeenSystem): void {
  for (const { uuid, label } of proof?.places ?? []) {
    if (uuid === undefined) continue
    const found = Object.values(devices).filter((device) => device.uuid.toLowerCase() === uuid.toLowerCase())
    expect(found, uuid).not.toEqual([])
    if (label !== undefined) expect(found[0]).toMatchObject({ label })
  }
  expect(proof?.bytesReadBack).toBeGreaterThan(0)
}

const mountsIn = ({ fstab }: SeenSystem) => fstab.map((row) => row.split(' ')[1])

function checkDebian({ system }: Seen): void {
  expect(system.devices['/dev/vda3']).toMatchObject({ type: 'ext4', label: 'root', name: 'root', at: '/' })
}

function checkPaper({ system }: Seen): void {
  const { devices } = system
  expect(devices).toMatchObject({
    '/dev/vda1': { size: MiB, type: '' },
    '/dev/vda2': { size: 64 * MiB, type: 'vfat', label: 'ESP', at: '/boot/efi' },
    '/dev/vda3': { size: 20 * GiB, type: 'ext4', name: 'system', at: '/' },
    '/dev/vda4': { size: 8 * GiB, type: 'swap', label: 'swap' },
    '/dev/vda5': { type: 'ext4', label: 'data', name: 'data', at: '/data' },
  })
  expect(devices['/dev/vda5']?.size).toBeGreaterThan(90 * GiB)
  expect(system.rootBytes).toBeGreaterThan(19 * GiB)
  expect(system.swaps).toEqual(['/dev/vda4'])
  expect(mountsIn(system)).toEqual(['none', '/data', '/boot/efi'])
}

function checkHadoop({ host, system, deployment }: Seen): void {
  const { devices } = system
  expect(devices).toMatchObject({
    '/dev/vda3': { size: 20 * GiB, name: 'system', at: '/' },
    '/dev/vda4': { size: 4 * GiB, type: 'swap' },
    '/dev/vda5': { type: 'ext4', label: 'mapred', name: 'mapred', at: '/data/mapred' },
    '/dev/vda6': { type: 'xfs', label: 'hdfs', name: 'hdfs', at: '/data/hdfs' },
  })
  expect(devices['/dev/vda5']?.size).toBeGreaterThan(23 * GiB)
  expect(devices['/dev/vda6']?.options).toContain('noatime')
  expect(system.rootBytes).toBeGreaterThan(19 * GiB)
  expect(system.ownName).toBe(host)
  const actions = new Map(deployment.proof?.actions.map((action) => [action.name, action]))
  for (const name of ['grow', 'hostname', 'network', 'ssh-host-keys', 'fstab']) {
    expect(actions.get(name), name).toMatchObject({ outcome: 'done' })
  }
  expect(system.hostKey).toMatch(/^SHA256:/)
  expect(actions.get('ssh-host-keys')?.text).toContain(system.hostKey)
}

function checkUnpacked({ host, system }: Seen): void {
  expect(system.devices).toMatchObject({
    '/dev/vda2': { size: 256 * MiB, type: 'vfat', label: 'ESP', at: '/boot/efi' },
    '/dev/vda3': { size: 20 * GiB, type: 'ext4', label: 'root', at: '/' },
    '/dev/vda4': { size: 8 * GiB, type: 'swap', label: 'swap' },
    '/dev/vda5': { type: 'xfs', label: 'data', at: '/srv' },
  })
  expect(system.ownName).toBe(host)
  expect(system.swaps).toEqual(['/dev/vda4'])
}

/** What the shared partition of two systems has, from the first of them on. */
const sharedMark = 'kept'

async function checkProduction({ host, system }: Seen): Promise<void> {
  expect(system.devices).toMatchObject({
    '/dev/vda3': { name: 'production', type: 'ext4', at: '/' },
    '/dev/vda4': { name: 'development', type: '', at: '' },
    '/dev/vda5': { name: 'shared', type: 'ext4', label: 'shared' },
  })
  expect(system.rootBytes).toBeGreaterThan(45 * GiB)
  await ssh(host, `mount /dev/vda5 /mnt && echo ${sharedMark} >/mnt/mine && umount /mnt`)
}

async function checkDevelopment({ host, system: { devices } }: Seen): Promise<void> {
  expect(devices).toMatchObject({
    '/dev/vda3': { name: 'production', type: 'ext4', at: '' },
    '/dev/vda4': { name: 'development', type: 'ext4', at: '/' },
  })
  expect(await ssh(host, 'cat /etc/hades-copy')).toBe(devices['/dev/vda4']?.uuid)
  expect(await ssh(host, 'mount -o ro /dev/vda5 /mnt && cat /mnt/mine')).toBe(sharedMark)
}

function checkMirror({ system }: Seen): void {
  const { devices } = system
  for (const disk of ['/dev/sda', '/dev/sdb']) {
    expect(devices[`${disk}2`]).toMatchObject({ size: 256 * MiB, type: 'linux_raid_member' })
    expect(devices[`${disk}3`]).toMatchObject({ type: 'linux_raid_member' })
  }
  expect(devices).toMatchObject({
    '/dev/mapper/vg0-root': { size: 20 * GiB, type: 'ext4', label: 'root', at: '/' },
    '/dev/mapper/vg0-swap': { size: 4 * GiB, type: 'swap' },
    '/dev/mapper/vg0-home': { type: 'xfs', label: 'home', at: '/home' },
  })
  const efi = Object.entries(devices).find(([, { at }]) => at === '/boot/efi')
  expect(efi).toMatchObject([expect.stringMatching(/^\/dev\/md/), { type: 'vfat', label: 'ESP' }])
  expect(system.arrays).toEqual(['raid1 [UU]', 'raid1 [UU]'])
  expect(system.swaps).toHaveLength(1)
}

async function checkWindows({ host, system }: Seen): Promise<void> {
  expect(system.devices).toMatchObject({
    '/dev/vda1': { size: 260 * MiB, kind: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b', name: 'EFI system partition' },
    '/dev/vda2': { size: 16 * MiB, type: '', kind: 'e3c9e316-0b5c-4db8-817d-f92df00215ae' },
    '/dev/vda3': { type: 'ntfs', label: 'Windows', kind: 'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7' },
    '/dev/vda4': { size: GiB, type: 'ext4', kind: 'de94bba4-06d1-4d40-a16a-bfd50179d6ac', at: '/' },
  })
  expect(await readWindowsMark(diskOf(host, 0), folder)).toBe(windowsMark)
}

/** What lies on the data disks before anything is deployed beside them. */
const dataMark = 'what the owner of this disk has on it'
const diskOf = (host: string, index: number) => machineOf(host).diskFiles[index] ?? ''
const dataDiskOf = (host: string) => diskOf(host, 1)

async function putData(file: string): Promise<void> {
  await execa('mke2fs', ['-q', '-t', 'ext4', '-F', '-L', 'mine', file])
  await writeFile(join(folder, 'mine'), dataMark)
  await execa('debugfs', ['-w', '-R', `write ${join(folder, 'mine')} mine`, file])
}

async function checkDataKept({ host, system }: Seen): Promise<void> {
  expect(system.devices).toMatchObject({
    '/dev/nvme0n1p3': { type: 'ext4', label: 'root', at: '/' },
    '/dev/vda': { type: 'ext4', label: 'mine', at: '' },
  })
  expect(await ssh(host, 'mount -o ro /dev/vda /mnt && cat /mnt/mine')).toBe(dataMark)
}

/** Erases by the command line; what the record says, the file of the disk says too. */
async function eraseAndCheck({ erase, disk, hosts }: Extract<Step, { erase: string }>): Promise<void> {
  const words = ['--method', erase, '--disk', disk, '--yes', String(hosts.length)]
  expect(await cluster.hades('erase', hosts.join(','), ...words)).toBe(0)
  for (const host of hosts) {
    const erasure = await erasureOf(host)
    expect(erasure).toMatchObject({ method: erase, disk, finish: 'poweroff', deployment: { state: 'done' } })
    const { disks } = erasure.report ?? { disks: [] }
    expect(disks).toHaveLength(disk === 'all' ? 2 : 1)
    for (const { path, text } of disks) {
      expect(text).toContain(erase === 'secure' ? `${path} by NVMe format` : `${path} by discard`)
      const [, places, held, zero] =
        /of (\d+) places read, (\d+) held something before; (\d+) read as zeros/.exec(text) ?? []
      expect(Number(places)).toBeGreaterThan(100)
      expect(Number(held)).toBeGreaterThan(0)
      expect(zero).toBe(places)
    }
    const kinds = (await eventsOf(cluster, erasure.deployment.id)).map(({ kind }) => kind)
    const story = ['erase-started', 'registered', 'erasing', 'erased', 'completed', 'done']
    expect([...new Set(kinds)].filter((kind) => story.includes(kind))).toEqual(story)
    for (let index = 0; index < disks.length; index++) expect(await dataIn(diskOf(host, index)), host).toBe('')
    const isOff = async () => (await cluster.power.getPower({ nodeset: host })).outcomes[0]?.state === 'off'
    await until(`${host} to be off`, isOff, { timeoutMs: 60_000, everyMs: 500 })
    if (erase === 'secure') expect(await dataIn(dataDiskOf(host))).not.toBe('')
  }
}

async function erasureOf(host: string): Promise<ErasureView> {
  const [newest] = (await cluster.control.listDeployments({ nodeset: host, limit: 1 })).deployments
  if (newest === undefined) throw new Error(`${host} has no deployment`)
  return (await cluster.control.getErasure({ deployment: newest.id })).erasure
}

/** Where a raw disk holds something, of the parts of the file that are no holes; empty when all of it reads as zeros. */
async function dataIn(file: string): Promise<string> {
  const { stdout } = await execa('qemu-img', [
    'map',
    '--force-share',
    '--output=json',
    '--image-opts',
    `driver=raw,file.filename=${file}`,
  ])
  const extents = JSON.parse(stdout) as { start: number; length: number; zero: boolean }[]
  const handle = await open(file)
  try {
    const buffer = Buffer.alloc(MiB)
    for (const { start, length } of extents.filter(({ zero }) => !zero)) {
      for (let at = start; at < start + length; at += MiB) {
        const { bytesRead } = await handle.read(buffer, 0, Math.min(MiB, start + length - at), at)
        if (buffer.subarray(0, bytesRead).some((byte) => byte !== 0)) return `something in the MiB at ${at} of ${file}`
      }
    }
    return ''
  } finally {
    await handle.close()
  }
}
