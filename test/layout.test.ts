// Layouts on real virtual machines, a BIOS and a UEFI one at once: the paper's own setup, then one that keeps its table and
// data, then a root unpacked from a tar beside an array with volumes. After each the new system itself is asked what it
// lies on.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, type Cluster, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import { takeApart } from '../lab/parts-of-image.ts'
import type { DeploymentView } from '../src/contract/types.ts'
import { until } from '../src/lib/until.ts'

const root = join(import.meta.dirname, '..')
const osImage = join(root, 'build', 'os-image', 'current')

const config = readLabConfig(`
network: hades-layout
subnet: 10.79.0.0/24
machines:
  - { name: n01, firmware: bios, memory: 1024, disks: [2GiB, 1GiB], address: 10.79.0.11, bmc: 10.79.0.101 }
  - { name: n02, firmware: uefi, memory: 1024, disks: [2GiB, 1GiB], address: 10.79.0.12, bmc: 10.79.0.102 }
`)
const hosts = ['n01', 'n02'] as const

let folder: string
let cluster: Cluster

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-layout-'))
  cluster = await openCluster(config, folder, { address: '10.79.0.1' })
  await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
  const parts = await takeApart(join(osImage, 'debian.raw'), folder)
  await publish(cluster, parts.partition, 'debian-root:12')
  await publish(cluster, parts.tar, 'debian-tree:12')
})
afterAll(async () => {
  await cluster?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

const firstDisk = '<hint property="serial" operator="contains" value="-d0"/>'
const secondDisk = '<hint property="serial" operator="contains" value="-d1"/>'

/** Deploys a setup to both machines, also to disks that none has proven before, and waits for their new systems. */
async function deploy(xml: string, setup: string): Promise<ReadonlyMap<string, DeploymentView>> {
  await cluster.control.putSetup({ xml })
  const { rollout } = await cluster.control.startRollout({ nodeset: 'n[01-02]', setup, acceptNewDisk: true })
  const deployments = await until(
    `both new systems of ${setup}`,
    async () => {
      const now = (await cluster.control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now.deployments
    },
    { timeoutMs: 600_000, everyMs: 500 },
  )
  for (const deployment of deployments) expect(deployment, JSON.stringify(deployment)).toMatchObject({ state: 'done' })
  return new Map(deployments.map((deployment) => [deployment.host, deployment]))
}

/** Runs a command in the new system of a host. */
async function ssh(host: string, command: string): Promise<string> {
  const address = cluster.lab.machines.find(({ name }) => name === host)?.address
  const quiet = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR']
  const options = ['-i', join(osImage, 'id_ed25519'), ...quiet.flatMap((option) => ['-o', option])]
  return await cluster.inside('ssh', ...options, `root@${address}`, command)
}

/** What the new system says lies on its partitions: `type label`, by their names. */
async function contentsOf(host: string): Promise<Record<string, string>> {
  const probe =
    'for d in /dev/vd??; do echo "$d $(blkid -p -s TYPE -o value $d) $(blkid -p -s LABEL -o value $d)"; done'
  const lines = (await ssh(host, probe)).trim().split('\n')
  return Object.fromEntries(
    lines.map((line) => {
      const [path = '', ...words] = line.trim().split(/\s+/)
      return [path.replace('/dev/', ''), words.join(' ')]
    }),
  )
}

/** Bytes of each partition, as the new system sees them. */
async function sizesOf(host: string): Promise<Record<string, number>> {
  const tree = JSON.parse(await ssh(host, 'lsblk --json --bytes --list --output NAME,SIZE')) as {
    blockdevices: { name: string; size: number }[]
  }
  return Object.fromEntries(tree.blockdevices.map(({ name, size }) => [name, size]))
}

const MiB = 1024 ** 2

test('the setup of the paper: an image on one partition, others made beside it, on BIOS and UEFI', async () => {
  const example = await readFile(join(root, 'examples', 'paper.xml'), 'utf8')
  const xml = example.replace('<disk>', `<disk>${firstDisk}`).replace('20GiB', '1GiB').replace('8GiB', '64MiB')
  const deployments = await deploy(xml.replace('<fstab/>', ''), 'paper')
  for (const host of hosts) {
    expect(await contentsOf(host)).toEqual({
      vda1: '',
      vda2: 'vfat ESP',
      vda3: 'ext4 root',
      vda4: 'swap swap',
      vda5: 'ext4 data',
    })
    expect(await sizesOf(host)).toMatchObject({ vda1: MiB, vda2: 64 * MiB, vda3: 1024 * MiB, vda4: 64 * MiB })
    expect((await ssh(host, 'findmnt --noheadings --output SOURCE /')).trim()).toBe('/dev/vda3')
    for (const place of deployments.get(host)?.proof?.places ?? []) {
      if (place.uuid === undefined || place.path === undefined) continue
      expect((await ssh(host, `blkid -p -s UUID -o value ${place.path}`)).trim()).toBe(place.uuid)
    }
    await ssh(host, 'mount /dev/vda5 /mnt && echo kept >/mnt/mine && umount /mnt')
  }
})

test('a redeployment of the system alone leaves the data of the host', async () => {
  await deploy(
    `<setup xmlns="urn:hades:setup:1" name="again">
<disk>${firstDisk}<table type="keep"><partition number="3"><image>debian-root:12</image></partition>
<partition number="5"><keep/></partition></table></disk>
<post-install root="system:3"><boot-loader/></post-install>
<probe><tcp port="22" expect="SSH-2.0"/></probe>
<deadlines boot="10min" deploy="30min" observe="5min" attempts="3"/></setup>`,
    'again',
  )
  for (const host of hosts) {
    expect(await ssh(host, 'mount -o ro /dev/vda5 /mnt && cat /mnt/mine')).toBe('kept')
    expect((await contentsOf(host)).vda4).toBe('swap swap')
  }
})

test('a root unpacked from a tar boots, beside an array of two disks with volumes on it', async () => {
  const deployments = await deploy(
    `<setup xmlns="urn:hades:setup:1" name="mirrored">
<disk name="a">${firstDisk}<table type="gpt">
  <partition size="1MiB" type="bios-boot"/>
  <partition size="64MiB" type="esp"><filesystem type="vfat" label="ESP" mount="/boot/efi"/></partition>
  <partition size="800MiB"><filesystem type="ext4" label="system" mount="/"><image>debian-tree:12</image></filesystem></partition>
  <partition size="grow" type="raid"><member of="main"/></partition></table></disk>
<disk name="b">${secondDisk}<table type="gpt"><partition type="raid"><member of="main"/></partition></table></disk>
<raid name="main" level="1"><member of="vg0"/></raid>
<volume-group name="vg0"><volume name="logs" size="320MiB"><filesystem type="xfs" label="logs"/></volume>
  <volume name="tree" size="128MiB"><filesystem type="btrfs" label="tree"/></volume>
  <volume name="swap" size="grow"><swap label="swap"/></volume></volume-group>
<post-install><boot-loader/></post-install>
<probe><tcp port="22" expect="SSH-2.0"/></probe>
<deadlines boot="10min" deploy="30min" observe="5min" attempts="3"/></setup>`,
    'mirrored',
  )
  for (const host of hosts) {
    expect(await contentsOf(host)).toMatchObject({
      vda2: 'vfat ESP',
      vda3: 'ext4 system',
      vda4: expect.stringMatching(/^linux_raid_member/),
      vdb1: expect.stringMatching(/^linux_raid_member/),
    })
    expect((await ssh(host, 'findmnt --noheadings --output SOURCE /')).trim()).toBe('/dev/vda3')
    const places = deployments.get(host)?.proof?.places ?? []
    const made = places.filter(({ place }) => place.startsWith('vg0/'))
    expect(made.map(({ place, label, uuid }) => [place, label, uuid?.length])).toEqual([
      ['vg0/logs', 'logs', 36],
      ['vg0/tree', 'tree', 36],
      ['vg0/swap', 'swap', 36],
    ])
    expect(deployments.get(host)?.proof?.bytesReadBack).toBeGreaterThan(100 * MiB)
  }
})
