// Boot targets on real firmware: machines with two systems side by side on their disk boot the one that their boot record
// says, or a profile from the network, switched by `hades boot set --reboot` through their controllers. The BIOS machine
// begins with pxelinux, the longest way to a partition, and later with iPXE; the UEFI machine with GRUB. (docs/scout.md has the
// other ways, which `scout/measure.ts` tries.) A third machine is known to nobody, and says itself what it is.
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, bmcOf, type Cluster, openCluster } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import type { LabMachine } from '../lab/lab.ts'
import { copyDemoKernel, makeTwoSystems, saidBy } from '../lab/two-systems.ts'
import { until } from '../src/lib/until.ts'

const config = readLabConfig(`
network: hades-targets
subnet: 10.80.0.0/24
machines:
  - { name: n05, firmware: bios, memory: 512, disks: [100MiB], address: 10.80.0.15, bmc: 10.80.0.105 }
  - { name: n06, firmware: uefi, rom: none, memory: 512, disks: [100MiB], address: 10.80.0.16, bmc: 10.80.0.106 }
  - { name: n07, firmware: bios, memory: 768, disks: [100MiB], address: 10.80.0.17, bmc: 10.80.0.107 }
`)

let folder: string
let cluster: Cluster
let password: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-targets-'))
  const upArgs = ['--dhcp-pool', '10.80.0.200-10.80.0.203']
  cluster = await openCluster(config, folder, { address: '10.80.0.1', upArgs })
  password = (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim()
  await addLabHosts(cluster, password, ['n05', 'n06'])
  await startStranger()
  await cluster.control.changeHost({ name: 'n05', loader: 'pxelinux' })
  const [disk = ''] = cluster.lab.machines[0]?.diskFiles ?? []
  await makeTwoSystems(disk)
  await copyFile(disk, cluster.lab.machines[1]?.diskFiles[0] ?? '')
  await putTinyProfile()
})
afterAll(async () => {
  await cluster?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

let strangersDisk: string

/** Switches on, behind the service's back, the machine that it does not know; it boots while the others are tried. */
async function startStranger(): Promise<void> {
  const { lab } = cluster
  const { bmcAddress, diskFiles } = machineOf('n07')
  const [disk = ''] = diskFiles
  await writeFile(disk, 'what somebody may still need', { flag: 'r+' })
  strangersDisk = await digestOf(disk)
  expect(await cluster.hades('discovered', 'policy', '--set', 'scout')).toBe(0)
  const session = ['-I', 'lanplus', '-C', '3', '-H', bmcAddress, '-U', lab.bmc.username, '-f', lab.bmc.passwordFile]
  await cluster.inside('ipmitool', ...session, 'chassis', 'power', 'on')
}

const digestOf = async (file: string): Promise<string> => (await execa('sha256sum', [file])).stdout

function machineOf(name: string): LabMachine {
  const machine = cluster.lab.machines.find((one) => one.name === name)
  if (machine === undefined) throw new Error(`the lab has no machine ${name}`)
  return machine
}

/** A kernel with an initial RAM disk that only says what it was told. */
async function putTinyProfile(): Promise<void> {
  const files = join(cluster.dataFolder, 'netboot', 'tiny')
  await mkdir(join(folder, 'initrd', 'bin'), { recursive: true })
  await mkdir(files, { recursive: true })
  await copyFile('/bin/busybox', join(folder, 'initrd/bin/busybox'))
  const init = [
    '#!/bin/busybox sh',
    '/bin/busybox mkdir /proc',
    '/bin/busybox mount -t proc proc /proc',
    '/bin/busybox cat /proc/cmdline',
    '/bin/busybox sleep 1',
    '/bin/busybox poweroff -f',
  ]
  await writeFile(join(folder, 'initrd/init'), `${init.join('\n')}\n`, { mode: 0o755 })
  const names = 'init\nbin\nbin/busybox\n'
  const { stdout } = await execa('cpio', ['-o', '-H', 'newc'], {
    cwd: join(folder, 'initrd'),
    input: names,
    encoding: 'buffer',
  })
  await writeFile(join(files, 'initrd'), stdout)
  await copyDemoKernel(join(files, 'linux'))
  const args = 'console=ttyS0,115200 quiet told=the.profile.tiny.by.{{host}}'
  expect(await cluster.hades('profile', 'put', 'tiny', '--kernel', 'linux', '--initrd', 'initrd', '--args', args)).toBe(
    0,
  )
}

/** Waits until the console of a machine has said `text` for the `times`th time. */
async function says(name: string, text: string, times = 1): Promise<void> {
  const log = cluster.lab.machines.find((machine) => machine.name === name)?.consoleLog ?? ''
  const isSaid = async () => (await readFile(log, 'latin1')).split(text).length > times
  await until(`${name} to say ${text}`, isSaid, { timeoutMs: 120_000, everyMs: 200 })
}

const eventsOf = async (nodeset: string) =>
  (await cluster.control.listEvents({ nodeset, limit: 10_000 })).events.map(({ kind, text }) => `${kind}: ${text}`)

test('two machines boot a partition and a profile, each its own, and each is a row of the task', async () => {
  const partition = cluster.hades('boot', 'set', 'n05', '--target', 'local:2', '--once', '--reboot')
  const profile = cluster.hades('boot', 'set', 'n06', '--target', 'netboot:tiny', '--once', '--reboot')
  expect(await Promise.all([partition, profile])).toEqual([0, 0])
  await Promise.all([says('n05', saidBy(2)), says('n06', 'told=the.profile.tiny.by.n06')])
  const { records } = await cluster.control.listBoot({})
  expect(records).toMatchObject([
    { host: 'n05', target: 'local:2', once: true, defaultTarget: 'local', askedAt: expect.any(String) },
    { host: 'n06', target: 'netboot:tiny', once: true },
  ])
  expect(await eventsOf('n05')).toEqual(
    expect.arrayContaining([
      'boot-script: asked for its pxelinux script by TFTP: boots local:2',
      'boot-script: asked for its grub script by TFTP: boots local:2',
    ]),
  )
})

test('the scout itself makes a profile; one that a boot record names, or whose files are elsewhere, is refused', async () => {
  const scout = { kernel: '/scout/vmlinuz', initrds: ['/scout/stage1.img'], arguments: '{{scoutArguments}}' }
  await cluster.control.putProfile({ name: 'rescue', ...scout })
  await cluster.control.removeProfile({ name: 'rescue' })
  await expect(cluster.control.removeProfile({ name: 'tiny' })).rejects.toMatchObject({ code: 'in-use' })
  await expect(cluster.control.putProfile({ name: 'tiny', kernel: '../x' })).rejects.toMatchObject({ at: 'kernel' })
  await expect(cluster.control.putProfile({ name: 'tiny', kernel: '/scout/none' })).rejects.toMatchObject({
    at: 'kernel',
  })
})

test('one is pointed at the other system; the other at none, tells so, and follows its record when that is changed', async () => {
  await cluster.control.changeHost({ name: 'n05', loader: 'auto' })
  const rest = cluster.hades('boot', 'set', 'n05', '--target', 'local:1', '--reboot')
  expect(await cluster.hades('boot', 'set', 'n06', '--target', 'local:9', '--reboot')).toBe(0)
  await says('n06', 'no partition 9 of n06 has a system to boot')
  const isTold = async () =>
    (await eventsOf('n06')).some((line) => line.startsWith('boot-failed: could not boot local:9'))
  await until('it to be told', isTold, { timeoutMs: 30_000 })
  await cluster.control.setBoot({ nodeset: 'n06', target: 'local:1' })
  await Promise.all([says('n05', saidBy(1)), says('n06', saidBy(1))])
  expect(await rest).toBe(0)
})

test('a machine that nobody knows reports what it is from the scout, keeps its disk as it is, is switched off and becomes a host', async () => {
  const { control, power, lab } = cluster
  const stranger = machineOf('n07')
  const { mac } = stranger
  const seen = () => control.getDiscovered({ mac }).catch(() => undefined)
  const hasReported = async () => (await seen())?.inventory !== undefined
  await until('the report of the machine', hasReported, { timeoutMs: 240_000, everyMs: 250 })
  expect(await seen()).toMatchObject({
    machine: { address: '10.80.0.200', found: expect.stringContaining('1 disk of 0.1 GiB') },
    inventory: { firmware: 'bios', disks: [{ sizeBytes: 100 * 2 ** 20 }], interfaces: [{ mac, carrier: true }] },
  })
  expect(await cluster.hades('discovered', 'show', mac)).toBe(0)
  const powerMethods = [bmcOf(lab, stranger, password)]
  const { host } = await control.approveDiscovered({ mac, name: 'n07', ip: stranger.address, powerMethods })
  expect(host).toMatchObject({ interfaces: [{ mac, ip: stranger.address }], inventory: { firmware: 'bios' } })
  const isOff = async () => (await power.getPower({ nodeset: 'n07' })).outcomes[0]?.state === 'off'
  await until('the machine to be off', isOff, { timeoutMs: 60_000 })
  expect(await digestOf(stranger.diskFiles[0] ?? '')).toBe(strangersDisk)
  expect((await control.listDiscovered({})).machines).toEqual([])
})
