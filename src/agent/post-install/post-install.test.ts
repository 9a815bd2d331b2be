import { readdir, readFile, rename, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ProofAction } from '../../contract/types.ts'
import { causeChain } from '../../model/failure.ts'
import type { Layout } from '../../model/layout.ts'
import { ownFolder } from '../test-image.ts'
import { checkPostInstall, type PostInstallWork, postInstall } from './post-install.ts'
import { createDisk, put, putSystem, type TestPartition, withMount } from './test-system.ts'

let folder: string
let closers: (() => Promise<void>)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
  expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain('/hades-target-')
})

const signal = new AbortController().signal
const mac = '52:54:00:12:34:56'
const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2v8AOKcJVsVZKGNFjJ0oBcbi2Yd3zBSTdkXIRAd1fR'

type Order = PostInstallWork['order']
const nothing: Order = {
  network: { mode: 'keep', dns: [] },
  newHostKeys: false,
  newMachineId: false,
  authorizedKeys: [],
  writeFstab: false,
  growLast: false,
  installBootLoader: false,
  scripts: [],
}

const script = (text: string, where: 'chroot' | 'scout' = 'chroot', timeoutMs = 20_000) => [
  { name: 'one', where, timeoutMs, text },
]

async function disk(partitions: readonly TestPartition[], options: Parameters<typeof createDisk>[2] = {}) {
  const { place, close } = await createDisk(folder, partitions, options)
  closers.push(close)
  return place
}

async function run(places: readonly Awaited<ReturnType<typeof disk>>[], order: Partial<Order>) {
  const told: string[] = []
  const work: PostInstallWork = {
    order: { ...nothing, ...order },
    host: 'n01',
    deployment: 7,
    interfaces: [{ mac, ip: '10.0.0.5' }],
    seenInterfaces: [{ mac, carrier: true }],
  }
  const tell = async (_kind: string, text: string) => void told.push(text)
  let record: readonly ProofAction[] | undefined
  let failed: string | undefined
  try {
    record = await postInstall(work, places, tell, signal)
  } catch (error) {
    failed = causeChain(error).join(': ')
  }
  return { told, record, failed }
}

const root = (filesystem: 'ext4' | 'xfs' | 'btrfs' = 'ext4', more?: (at: string) => Promise<void>): TestPartition => ({
  sizeMiB: filesystem === 'ext4' ? 64 : 320,
  filesystem,
  fill: async (at) => {
    await putSystem(at)
    await more?.(at)
  },
})

test.each(['ext4', 'xfs', 'btrfs'] as const)(
  'a copy of an image on %s becomes a system of its own',
  async (filesystem) => {
    const network = (at: string) =>
      put(at, {
        'usr/lib/systemd/systemd-networkd': '',
        'etc/systemd/system/multi-user.target.wants/systemd-networkd.service': '',
      })
    const place = await disk([{ sizeMiB: 16, filesystem: 'swap' }, root(filesystem, network)], { freeMiB: 100 })
    const { record, failed } = await run([place], {
      hostname: 'n01.example',
      network: { mode: 'static', prefixLength: 24, gateway: '10.0.0.1', dns: ['10.0.0.2'] },
      newHostKeys: true,
      newMachineId: true,
      authorizedKeys: [{ user: 'alice', key: `${key} a@b` }],
      growLast: true,
      scripts: script('echo "$HADES_HOST $HADES_DEPLOYMENT $HADES_ROOT"; echo made >/made; cat /etc/hostname'),
    })
    expect(failed).toBeUndefined()
    expect(record?.map(({ name, outcome }) => `${name} ${outcome}`)).toEqual([
      'grow done',
      'root done',
      'hostname done',
      'machine-id done',
      'ssh-host-keys done',
      'authorized-keys done',
      'network done',
      'script one done',
    ])
    expect(record?.at(-1)?.text).toBe('exit status 0 in the new system; it printed: n01 7 /; n01.example')
    await withMount(`${place.device.path}p2`, folder, async (at) => {
      const read = (name: string) => readFile(join(at, name), 'utf8')
      expect(await read('etc/hosts')).toBe('127.0.0.1 localhost\n127.0.1.1\tn01.example n01\n10.0.0.9 other\n')
      expect(await read('etc/machine-id')).toMatch(/^(?!0123)[0-9a-f]{32}\n$/)
      expect(await read('made')).toBe('made\n')
      expect(await read('etc/systemd/network/00-hades.network')).toContain('Address=10.0.0.5/24\nGateway=10.0.0.1\n')
      const { stdout: print } = await execa('ssh-keygen', ['-l', '-f', join(at, 'etc/ssh/ssh_host_ed25519_key.pub')])
      expect(record?.find(({ name }) => name === 'ssh-host-keys')?.text).toContain(print.split(' ')[1])
      expect(await read('home/alice/.ssh/authorized_keys')).toBe(`${key} a@b\n`)
      expect(await stat(join(at, 'home/alice/.ssh/authorized_keys'))).toMatchObject({
        uid: 1000,
        gid: 1001,
        mode: 0o100600,
      })
      expect(await stat(join(at, 'home/alice/.ssh'))).toMatchObject({ uid: 1000, gid: 1001, mode: 0o40700 })
      const { stdout } = await execa('df', ['--output=size', '-B1', at])
      // A file system's own tables take something of it; 64 or 320 MiB it had before.
      expect(Number(stdout.split('\n')[1])).toBeGreaterThan((filesystem === 'ext4' ? 110 : 340) * 1024 ** 2)
    })
  },
)

test('a root in a subvolume of btrfs is found, and written there', async () => {
  const subvolume: TestPartition = {
    sizeMiB: 320,
    filesystem: 'btrfs',
    fill: async (at) => {
      await execa('btrfs', ['subvolume', 'create', join(at, '@')])
      await putSystem(join(at, '@'))
    },
  }
  const place = await disk([subvolume])
  expect(await run([place], { hostname: 'n01' })).toMatchObject({
    record: [{ text: expect.stringContaining('subvolume @') }, {}, {}],
  })
  await withMount(`${place.device.path}p1`, folder, async (at) => {
    expect(await readFile(join(at, '@/etc/hostname'), 'utf8')).toBe('n01\n')
  })
})

test('without a root, and with two, nothing is done and the words say what each partition looked like', async () => {
  const none = await disk(
    [
      { sizeMiB: 32, filesystem: 'ext4' },
      { sizeMiB: 16, filesystem: 'swap' },
    ],
    { name: 'none' },
  )
  const { failed } = await run([none], { hostname: 'n01' })
  expect(failed).toMatch(
    /root failed: no root of a Linux system was found: .*p1 \(none, partition 1: ext4\) has no \/etc/,
  )
  const two = await disk([root(), root()], { name: 'two' })
  const { failed: many } = await run([two], { hostname: 'n01' })
  expect(many).toMatch(/several file systems look like the root .*partition 1.*partition 2.*Say which/)
  const named = await run([two], { hostname: 'n01', root: 'two:2' })
  expect(named.record?.map(({ outcome }) => outcome)).toEqual(['done', 'done', 'skipped'])
})

test('a script that hangs is ended with all that it began, and what it printed is told', async () => {
  const place = await disk([root()])
  const text = 'echo begun; setsid sleep 987654 & sleep 987654'
  const { failed, told } = await run([place], { scripts: script(text, 'chroot', 1000) })
  expect(failed).toBe(
    'post-install: script one failed: script one in the new system was ended after its 1 s: it printed: begun',
  )
  expect(told.at(-1)).toContain('script one failed: ')
  expect((await execa('pgrep', ['-f', 'sleep 987654'], { reject: false })).stdout).toBe('')
})

test('a script that fails tells its exit status and the end of a long output', async () => {
  const place = await disk([root()])
  const text = '#!/bin/sh\ni=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo no luck >&2; exit 3'
  const { failed } = await run([place], { scripts: script(text) })
  expect(failed).toMatch(/ended with exit status 3: it printed, at its end: .*line 1999; no luck$/)
  expect(failed?.length).toBeLessThan(2500)
})

test('a script of the scout finds the new system where HADES_ROOT says', async () => {
  const place = await disk([root()])
  const text = 'cat "$HADES_ROOT/etc/hostname"; mount -t tmpfs none /mnt; echo "$HADES_TOKEN"'
  const { record } = await run([place], { scripts: script(text, 'scout') })
  expect(record?.at(-1)?.text).toBe('exit status 0 in the scout; it printed: golden')
  expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toMatch(/ \/mnt /)
})

test('a full file system is told with the file that has no room', async () => {
  const full = root('ext4', async (at) => {
    await execa('dd', ['if=/dev/zero', `of=${join(at, 'filler')}`, 'bs=64k'], { reject: false })
    await execa('dd', ['if=/dev/zero', `of=${join(at, 'filler2')}`, 'bs=512'], { reject: false })
  })
  const place = await disk([full])
  const { failed } = await run([place], { authorizedKeys: [{ user: 'root', key }] })
  expect(failed).toMatch(
    /authorized-keys failed: \/?root\/\.ssh.* of the new system cannot be written: the file system is full/,
  )
})

test('scripts of the scout run without a root where no image has one', async () => {
  const place = await disk([{ sizeMiB: 32, filesystem: 'ext4' }])
  const { record } = await run([place], { scripts: script('echo "[$HADES_ROOT]"', 'scout') })
  expect(record).toMatchObject([
    { name: 'root', outcome: 'skipped', text: expect.stringContaining('no root of a Linux system was found') },
    { outcome: 'done', text: 'exit status 0 in the scout; it printed: []' },
  ])
})

test('what the system’s own fstab mounts from disks of the setup is there, and nothing else', async () => {
  const uuid = '0b7c1b9e-6d5a-4f6e-9d53-0a1f0c6f7a11'
  const fstab = `UUID=${uuid} /var ext4 defaults 0 2\nUUID=00000000-0000-0000-0000-000000000000 /srv ext4 defaults 0 2\n`
  const place = await disk([
    root('ext4', (at) => put(at, { 'etc/fstab': fstab })),
    { sizeMiB: 32, filesystem: 'ext4', uuid },
  ])
  const { record } = await run([place], { scripts: script('echo here >/var/here') })
  expect(record?.[0]?.text).toMatch(/partition 1: ext4\); \/var is .*partition 2: ext4\)$/)
  await withMount(`${place.device.path}p2`, folder, async (at) => {
    expect(await readFile(join(at, 'here'), 'utf8')).toBe('here\n')
  })
})

test('on an MBR the last partition grows, and a disk without room says so', async () => {
  const roomy = await disk([root()], { freeMiB: 64, table: 'dos', name: 'roomy' })
  const { record } = await run([roomy], { growLast: true })
  expect(record).toMatchObject([
    { name: 'grow', outcome: 'done', text: expect.stringMatching(/p1 grew from 67108864 to 13\d+ bytes/) },
  ])
  const tight = await disk([root()], { name: 'tight' })
  const again = await run([tight], { growLast: true })
  expect(again.record).toMatchObject([{ outcome: 'skipped', text: expect.stringContaining('nothing is free behind') }])
})

test('the last partition is the one at the end, whatever its number', async () => {
  const place = await disk(
    [
      { sizeMiB: 8, filesystem: 'none', number: 14 },
      { ...root(), number: 1 },
    ],
    { freeMiB: 64 },
  )
  const { record } = await run([place], { growLast: true })
  expect(record?.[0]?.text).toMatch(/p1 grew from 67108864 to 13\d+ bytes; the ext4 on it fills it/)
})

test('a last partition that cannot grow fails in words', async () => {
  const place = await disk([root(), { sizeMiB: 16, filesystem: 'none' }], { freeMiB: 32 })
  const { failed } = await run([place], { growLast: true })
  expect(failed).toMatch(/grow failed: .*p2 holds nothing known, which cannot be made to grow here/)
})

test('a foreign tree whose folders are links out of it is not followed', async () => {
  const place = await disk([
    root('ext4', async (at) => {
      await symlink(folder, join(at, 'proc'))
      await rename(join(at, 'etc/ssh'), join(at, 'etc/ssh.real'))
      await symlink(folder, join(at, 'etc/ssh'))
    }),
  ])
  const keys = await run([place], { newHostKeys: true })
  expect(keys.record?.find(({ name }) => name === 'ssh-host-keys')).toMatchObject({ outcome: 'skipped' })
  const chroot = await run([place], { scripts: script('true') })
  expect(chroot.failed).toMatch(/script one failed: /)
  expect((await readdir(folder)).filter((name) => name.startsWith('ssh_host'))).toEqual([])
})

test('an end from outside ends the script, lets the disk go and is no failure of the script', async () => {
  const place = await disk([root()])
  const stop = new AbortController()
  const told: string[] = []
  const work: PostInstallWork = {
    order: { ...nothing, scripts: script('sleep 987655') },
    host: 'n01',
    deployment: 7,
    interfaces: [],
    seenInterfaces: [],
  }
  const tell = async (_kind: string, text: string) => {
    told.push(text)
    if (text.startsWith('root')) setTimeout(() => stop.abort(new Error('cancelled by somebody')), 500)
  }
  await expect(postInstall(work, [place], tell, stop.signal)).rejects.toThrow('cancelled by somebody')
  expect(told.filter((text) => text.startsWith('script'))).toEqual([])
  expect((await execa('pgrep', ['-f', 'sleep 987655'], { reject: false })).stdout).toBe('')
})

test('a static address that nobody knows is refused before anything is written', () => {
  const layout: Layout = {
    disks: [{ name: 'system', hints: [], erase: 'none', partitions: [], content: { kind: 'image', image: 'a:1' } }],
    arrays: [],
    groups: [],
  }
  const work: PostInstallWork = {
    order: { ...nothing, network: { mode: 'static', prefixLength: 24, dns: [] } },
    host: 'n01',
    deployment: 7,
    interfaces: [{ mac }],
    seenInterfaces: [{ mac, carrier: true }],
  }
  const check = (more: Partial<PostInstallWork>) => () =>
    checkPostInstall({ ...work, ...more }, layout, () => undefined)
  expect(check({})).toThrow(`HaDeS knows none of the interface ${mac}`)
  expect(check({ interfaces: [{ mac, ip: '10.0.0.5' }] })).not.toThrow()
  expect(check({ interfaces: [{ mac: '52:54:00:00:00:01', ip: '10.0.0.5' }] })).toThrow(
    'is in the machine, which has 52:54',
  )
  const both = [{ mac, ip: '10.0.0.5' }, { mac: '52:54:00:00:00:01' }]
  expect(check({ interfaces: both, bootMac: '52:54:00:00:00:01' })).toThrow('none of the interface 52:54:00:00:00:01')
})
