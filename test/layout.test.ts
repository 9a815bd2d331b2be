// The example setups on real virtual machines, as they are in examples/ but for the names of images: two chains of machines
// at once, each machine with the disks that its setups ask for. After each deployment a script in the new system, or on UEFI
// a recovery system on a disk like that of Windows, says what it lies on.
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, type Cluster, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import { copyRoot, cutPartition, takeApart } from '../lab/parts-of-image.ts'
import type { DeploymentView } from '../src/contract/types.ts'
import { until } from '../src/lib/until.ts'

const root = join(import.meta.dirname, '..')
const osImage = join(root, 'build', 'os-image', 'current')
const MiB = 1024 ** 2
const GiB = 1024 * MiB

const config = readLabConfig(`
network: hades-layout
subnet: 10.79.0.0/24
machines:
  - { name: n01, firmware: bios, memory: 1024, disks: [64GiB] }
  - { name: n02, firmware: uefi, memory: 1024, disks: [120GiB] }
  - { name: n03, firmware: bios, memory: 1024, disks: [{ size: 40GiB, bus: scsi }, { size: 40GiB, bus: scsi }] }
  - { name: n04, firmware: uefi, memory: 1024, disks: [{ size: 40GiB, bus: scsi }, { size: 40GiB, bus: scsi }] }
  - { name: n05, firmware: bios, memory: 1024, disks: [{ size: 2GiB, bus: nvme }, 1GiB] }
  - { name: n06, firmware: uefi, memory: 1024, disks: [4GiB] }
`)

/** The images of the examples, and which of ours stand for them. */
const images: Readonly<Record<string, string>> = {
  'hadoop-root:3': 'debian-root:12',
  'production-root:1': 'debian-root:12',
  'windows-recovery:11': 'debian-root:12',
}

let folder: string
let cluster: Cluster

/** A setup of examples/ on a machine, and what is asked of the new system before the machine goes on to its next. */
type Step = {
  readonly host: string
  readonly setup: string
  readonly change?: (xml: string) => string
  readonly check: (host: string, deployment: DeploymentView) => Promise<void>
}

const chains: readonly (readonly Step[])[] = [
  [
    { host: 'n01', setup: 'paper', check: checkPaper },
    { host: 'n01', setup: 'side-by-side', check: checkProduction },
    { host: 'n01', setup: 'side-by-side-development', check: checkDevelopment },
    { host: 'n03', setup: 'raid-lvm', check: checkMirror },
    { host: 'n05', setup: 'data-kept', check: checkDataKept },
  ],
  [
    { host: 'n02', setup: 'hadoop', check: checkHadoop },
    { host: 'n02', setup: 'root-swap-data', check: checkUnpacked },
    { host: 'n04', setup: 'raid-lvm', check: checkMirror },
    // No Windows is at hand: what answers is the recovery system, and not remote desktop.
    { host: 'n06', setup: 'windows', change: (xml) => xml.replace('port="3389"', 'port="22"'), check: checkWindows },
  ],
]

/** How each step ended, by setup and host. */
const ends = new Map<string, Promise<void>>()

async function runChain(steps: readonly { step: Step; end: PromiseWithResolvers<void> }[]): Promise<void> {
  for (const [index, { step, end }] of steps.entries()) {
    try {
      await step.check(step.host, await deploy(step))
      end.resolve()
    } catch (error) {
      end.reject(error)
    }
    // The processors are for those that work.
    if (steps[index + 1]?.step.host !== step.host) await cluster.power.setPower({ nodeset: step.host, action: 'off' })
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-layout-'))
  cluster = await openCluster(config, folder, { address: '10.79.0.1' })
  await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
  const disk = join(osImage, 'debian.raw')
  const parts = await takeApart(disk, folder, { withStorageTools: true })
  await publish(cluster, parts.partition, 'debian-root:12')
  await publish(cluster, parts.tar, 'debian-tree:12')
  await publish(cluster, disk, 'debian:12')
  const [copy, esp, ntfs] = ['copy.raw', 'esp.raw', 'ntfs.raw'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await copyRoot(parts.partition, copy, join(folder, 'copy'))
  await publish(cluster, copy, 'development-root:1')
  await cutPartition(disk, 2, esp)
  await publish(cluster, esp, 'windows-esp:11')
  await makeNtfs(ntfs)
  await publish(cluster, ntfs, 'windows-c:11')
  await putData()
  for (const chain of chains) {
    const steps = chain.map((step) => ({ step, end: Promise.withResolvers<void>() }))
    for (const { step, end } of steps) {
      end.promise.catch(() => {})
      ends.set(`${step.setup} on ${step.host}`, end.promise)
    }
    void runChain(steps)
  }
})
afterAll(async () => {
  await cluster?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

test.each(
  chains.flatMap((steps) =>
    steps.map(({ setup, host }) => ({
      setup,
      host,
      firmware: config.machines.find(({ name }) => name === host)?.firmware,
    })),
  ),
)('$setup on $host ($firmware): the new system lies where the setup says', async ({ setup, host }) => {
  await ends.get(`${setup} on ${host}`)
})

async function deploy({ host, setup, change = (xml) => xml }: Step): Promise<DeploymentView> {
  let xml = change(await readFile(join(root, 'examples', `${setup}.xml`), 'utf8'))
  for (const [name, ours] of Object.entries(images)) xml = xml.replaceAll(name, ours)
  await cluster.control.putSetup({ xml })
  const { rollout } = await cluster.control.startRollout({ nodeset: host, setup, acceptNewDisk: true })
  const [deployment] = await until(
    `the new system of ${setup} on ${host}`,
    async () => {
      const now = (await cluster.control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now.deployments
    },
    { timeoutMs: 800_000, everyMs: 500 },
  )
  expect(deployment, JSON.stringify(deployment)).toMatchObject({ state: 'done' })
  if (deployment === undefined) throw new Error('the rollout has no deployment')
  return deployment
}

/** Runs a command in the new system of a host. */
async function ssh(host: string, command: string): Promise<string> {
  const address = cluster.lab.machines.find(({ name }) => name === host)?.address
  const quiet = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR']
  const options = ['-i', join(osImage, 'id_ed25519'), ...quiet.flatMap((option) => ['-o', option])]
  return (await cluster.inside('ssh', ...options, `root@${address}`, command)).trim()
}

type Seen = {
  path: string
  size: number
  type: string
  label: string
  uuid: string
  name: string
  kind: string
  at: string
}

/** What the new system sees of its disks, by path. */
async function seenBy(host: string): Promise<Record<string, Seen>> {
  const script = `lsblk --bytes --list --noheadings --paths --output NAME,SIZE | while read -r d s; do
    echo "$d|$s|$(blkid -p -s TYPE -o value $d)|$(blkid -p -s LABEL -o value $d)|$(blkid -p -s UUID -o value $d)|$(
    blkid -p -s PART_ENTRY_NAME -o value $d)|$(blkid -p -s PART_ENTRY_TYPE -o value $d)|$(findmnt -n -o TARGET -S $d | head -1)"
  done`
  const rows = (await ssh(host, script)).split('\n').map((line): Seen => {
    const [path = '', size = '', type = '', label = '', uuid = '', name = '', kind = '', at = ''] = line.split('|')
    return { path, size: Number(size), type, label, uuid, name, kind, at }
  })
  return Object.fromEntries(rows.map((row) => [row.path, row]))
}

/** What the proof says that a file system is called, the new system says too. */
function expectNamed(deployment: DeploymentView, seen: Record<string, Seen>): void {
  const places = (deployment.proof?.places ?? []).filter(({ uuid, path }) => uuid !== undefined && path !== undefined)
  expect(places.length).toBeGreaterThan(0)
  const uuids = Object.values(seen).map(({ uuid }) => uuid.toLowerCase())
  for (const { uuid = '' } of places) expect(uuids).toContain(uuid.toLowerCase())
}

async function checkPaper(host: string, deployment: DeploymentView): Promise<void> {
  const seen = await seenBy(host)
  expectNamed(deployment, seen)
  expect(seen).toMatchObject({
    '/dev/vda1': { size: MiB, type: '' },
    '/dev/vda2': { size: 64 * MiB, type: 'vfat', label: 'ESP', at: '/boot/efi' },
    '/dev/vda3': { size: 20 * GiB, type: 'ext4', name: 'system', at: '/' },
    '/dev/vda4': { size: 8 * GiB, type: 'swap', label: 'swap' },
    '/dev/vda5': { type: 'ext4', label: 'data', name: 'data', at: '/data' },
  })
  expect(seen['/dev/vda5']?.size).toBeGreaterThan(35 * GiB)
  expect(await ssh(host, 'swapon --noheadings --show=NAME')).toBe('/dev/vda4')
}

async function checkHadoop(host: string, deployment: DeploymentView): Promise<void> {
  const seen = await seenBy(host)
  expectNamed(deployment, seen)
  expect(seen).toMatchObject({
    '/dev/vda3': { size: 20 * GiB, name: 'system', at: '/' },
    '/dev/vda4': { size: 4 * GiB, type: 'swap' },
    '/dev/vda5': { type: 'ext4', label: 'mapred', at: '/data/mapred' },
    '/dev/vda6': { type: 'xfs', label: 'hdfs', at: '/data/hdfs' },
  })
  expect(seen['/dev/vda5']?.size).toBeGreaterThan(23 * GiB)
  expect(await ssh(host, 'findmnt -n -o OPTIONS /data/hdfs')).toContain('noatime')
  expect(await ssh(host, 'hostname; cat /etc/hostname')).toBe(`${host}\n${host}`)
  const actions = deployment.proof?.actions ?? []
  for (const name of ['hostname', 'network', 'ssh-host-keys', 'machine-id', 'fstab']) {
    expect(actions.find((action) => action.name === name)?.outcome, name).toMatch(/done|skipped/)
  }
  const [fingerprint = ''] =
    /SHA256:\S+/.exec(await ssh(host, 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub')) ?? []
  const told = actions.find(({ name }) => name === 'ssh-host-keys')
  if (told?.outcome === 'done') expect(told.text).toContain(fingerprint)
  expect(await ssh(host, 'cat /etc/machine-id')).toMatch(/^[0-9a-f]{32}$/)
}

async function checkUnpacked(host: string, deployment: DeploymentView): Promise<void> {
  const seen = await seenBy(host)
  expectNamed(deployment, seen)
  expect(seen).toMatchObject({
    '/dev/vda2': { size: 256 * MiB, type: 'vfat', at: '/boot/efi' },
    '/dev/vda3': { size: 20 * GiB, type: 'ext4', label: 'root', at: '/' },
    '/dev/vda4': { size: 8 * GiB, type: 'swap', label: 'swap' },
    '/dev/vda5': { type: 'xfs', label: 'data', at: '/srv' },
  })
  expect(await ssh(host, 'hostname')).toBe(host)
  expect(await ssh(host, 'test -d /sys/firmware/efi && ls /boot/efi/EFI/BOOT')).toContain('BOOTX64.EFI')
}

async function checkProduction(host: string): Promise<void> {
  expect(await seenBy(host)).toMatchObject({
    '/dev/vda3': { name: 'production', at: '/' },
    '/dev/vda4': { name: 'development', type: '' },
    '/dev/vda5': { type: 'ext4', label: 'shared' },
  })
  await ssh(host, 'mount /dev/vda5 /mnt && echo kept >/mnt/mine && umount /mnt')
}

async function checkDevelopment(host: string): Promise<void> {
  const seen = await seenBy(host)
  expect(seen).toMatchObject({
    '/dev/vda3': { name: 'production', type: 'ext4', at: '' },
    '/dev/vda4': { name: 'development', type: 'ext4', at: '/' },
  })
  expect(await ssh(host, 'cat /etc/hades-copy')).toBe(seen['/dev/vda4']?.uuid)
  expect(await ssh(host, 'mount -o ro /dev/vda5 /mnt && cat /mnt/mine')).toBe('kept')
}

async function checkMirror(host: string, deployment: DeploymentView): Promise<void> {
  const seen = await seenBy(host)
  expectNamed(deployment, seen)
  for (const disk of ['/dev/sda', '/dev/sdb']) {
    expect(seen[`${disk}2`]).toMatchObject({ size: 256 * MiB, type: 'linux_raid_member' })
    expect(seen[`${disk}3`]).toMatchObject({ type: 'linux_raid_member' })
  }
  const mapped = Object.values(seen).filter(({ path }) => path.startsWith('/dev/mapper/'))
  expect(Object.fromEntries(mapped.map(({ path, type, label, at }) => [path, `${type} ${label} ${at}`]))).toEqual({
    '/dev/mapper/vg0-root': 'ext4 root /',
    '/dev/mapper/vg0-swap': expect.stringMatching(/^swap /),
    '/dev/mapper/vg0-home': 'xfs home /home',
  })
  expect(seen['/dev/mapper/vg0-root']?.size).toBe(20 * GiB)
  const arrays = await ssh(host, 'cat /proc/mdstat')
  expect(arrays.match(/active.* raid1 .*\[UU\]|blocks.*\[UU\]/g)).toHaveLength(2)
  expect(
    Object.values(seen).some(
      ({ path, type, at }) => path.startsWith('/dev/md') && type === 'vfat' && at === '/boot/efi',
    ),
  ).toBe(true)
}

/** What lies on the data disk of n05 before anything is deployed there. */
const dataMark = 'what the owner of this disk has on it'

async function putData(): Promise<void> {
  const file = cluster.lab.machines.find(({ name }) => name === 'n05')?.diskFiles[1]
  if (file === undefined) throw new Error('n05 has two disks')
  await execa('mke2fs', ['-q', '-t', 'ext4', '-F', '-L', 'mine', file])
  await writeFile(join(folder, 'mine'), dataMark)
  await execa('debugfs', ['-w', '-R', `write ${join(folder, 'mine')} mine`, file])
}

async function checkDataKept(host: string): Promise<void> {
  const seen = await seenBy(host)
  expect(seen).toMatchObject({
    '/dev/nvme0n1p3': { type: 'ext4', label: 'root', at: '/' },
    '/dev/vda': { type: 'ext4', label: 'mine', at: '' },
  })
  expect(await ssh(host, 'mount -o ro /dev/vda /mnt && cat /mnt/mine')).toBe(dataMark)
}

const ntfsMark = 'a file of a system that nobody here knows'

async function makeNtfs(file: string): Promise<void> {
  await writeFile(file, '')
  await truncate(file, 256 * MiB)
  await execa('mkfs.ntfs', ['--quiet', '--fast', '--force', '--label', 'Windows', '--partition-start', '2048', file])
  // Not from a pipe: ntfscp wants a file with a size.
  await writeFile(`${file}.txt`, ntfsMark)
  await execa('ntfscp', ['--force', file, `${file}.txt`, 'mine.txt'])
}

async function checkWindows(host: string): Promise<void> {
  const seen = await seenBy(host)
  expect(seen).toMatchObject({
    '/dev/vda1': {
      size: 260 * MiB,
      type: 'vfat',
      kind: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
      name: 'EFI system partition',
    },
    '/dev/vda2': {
      size: 16 * MiB,
      type: '',
      kind: 'e3c9e316-0b5c-4db8-817d-f92df00215ae',
      name: 'Microsoft reserved partition',
    },
    '/dev/vda3': {
      type: 'ntfs',
      label: 'Windows',
      kind: 'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7',
      name: 'Basic data partition',
    },
    '/dev/vda4': { size: GiB, type: 'ext4', kind: 'de94bba4-06d1-4d40-a16a-bfd50179d6ac', at: '/' },
  })
  // The new system has no driver for NTFS: the host reads the file of the disk.
  const disk = cluster.lab.machines.find(({ name }) => name === host)?.diskFiles[0]
  if (disk === undefined) throw new Error(`${host} has a disk`)
  await mkdir(join(folder, 'windows'))
  const volume = join(folder, 'windows', 'c.raw')
  await cutPartition(disk, 3, volume)
  expect((await execa('ntfscat', ['--force', volume, 'mine.txt'])).stdout).toBe(ntfsMark)
}
