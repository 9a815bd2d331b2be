// Disks with small systems on them, for tests: real partition tables and file systems on loop devices, and trees that have
// what the agent looks for in a Linux root. Programs in them are busybox.
import { copyFile, mkdir, mkdtemp, rmdir, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { openLoop, unmount } from '../../lib/block-devices.ts'
import type { Place } from '../place.ts'

const MiB = 1024 ** 2

export type TestFileSystem = 'ext4' | 'xfs' | 'btrfs' | 'swap' | 'none'

export type TestPartition = {
  /** In the table; its place in the list unless given. */
  readonly number?: number
  readonly sizeMiB: number
  readonly filesystem: TestFileSystem
  readonly uuid?: string
  /** Puts files into the mounted file system. */
  readonly fill?: ((folder: string) => Promise<void>) | undefined
}

export type TestDisk = { readonly place: Place; readonly close: () => Promise<void> }

/** A disk as it is when an image was written to it: partitions one behind the other, `freeMiB` behind the last. */
export async function createDisk(
  folder: string,
  partitions: readonly TestPartition[],
  { freeMiB = 0, name = 'system', table = 'gpt' }: { freeMiB?: number; name?: string; table?: 'gpt' | 'dos' } = {},
): Promise<TestDisk> {
  const path = join(folder, `${name}.raw`)
  await writeFile(path, '')
  const imageMiB = partitions.reduce((sum, { sizeMiB }) => sum + sizeMiB, 2)
  await truncate(path, imageMiB * MiB)
  const numbers = partitions.map(({ number }, index) => number ?? index + 1)
  const rows = partitions.map(({ sizeMiB }, index) => `/dev/x${numbers[index]} : size=${sizeMiB}MiB`)
  await execa('sfdisk', [path], { input: `label: ${table}\n${rows.join('\n')}\n` })
  // The larger disk that the image came to; the backup table has moved to its end, as boot-block.ts does it.
  const sizeBytes = (imageMiB + freeMiB) * MiB
  await truncate(path, sizeBytes)
  if (table === 'gpt') await execa('sgdisk', ['--move-second-header', path])
  // --partscan makes the kernel forget the partitions of what this device stood for before, and of ours at its end; not
  // every kernel reads a GPT by itself.
  const { device, detach: close } = await openLoop(path, ['--partscan'])
  try {
    await execa('partx', ['--update', '--nr', '1:128', device])
    for (const [index, partition] of partitions.entries()) await fill(`${device}p${numbers[index]}`, partition, folder)
  } catch (error) {
    await close()
    throw error
  }
  const disk = { path: device, sizeBytes, sectorBytes: 512, rotational: false }
  return { place: { name, content: { kind: 'image', image: 'test:1' }, device: disk, disk }, close }
}

async function fill(device: string, { filesystem, uuid, fill }: TestPartition, folder: string): Promise<void> {
  const id = uuid === undefined ? [] : filesystem === 'xfs' ? ['-m', `uuid=${uuid}`] : ['-U', uuid]
  if (filesystem === 'none') await execa('wipefs', ['-qa', device])
  else if (filesystem === 'swap') await execa('mkswap', [...id, device])
  else await execa(`mkfs.${filesystem}`, ['-q', ...(filesystem === 'ext4' ? [] : ['-f']), ...id, device])
  if (fill === undefined) return
  await withMount(device, folder, fill)
}

/** Mounts a device for as long as `work` lasts. */
export async function withMount<T>(device: string, folder: string, work: (at: string) => Promise<T>): Promise<T> {
  const at = await mkdtemp(join(folder, 'mount-'))
  await execa('mount', [device, at])
  try {
    return await work(at)
  } finally {
    await unmount(at)
    await rmdir(at)
  }
}

export async function put(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true })
    await writeFile(join(root, name), text)
  }
}

const passwd = `root:x:0:0:root:/root:/bin/sh
alice:x:1000:1001::/home/alice:/bin/sh
`

/** The least that is a system: a shell, an init, users, an SSH server's configuration. */
export async function putSystem(root: string): Promise<void> {
  await put(root, {
    'etc/os-release': 'ID=test\n',
    'etc/passwd': passwd,
    'etc/machine-id': '0123456789abcdef0123456789abcdef\n',
    'etc/hostname': 'golden\n',
    'etc/hosts': '127.0.0.1 localhost\n127.0.1.1 golden.example golden\n10.0.0.9 other\n',
    'etc/ssh/sshd_config': 'PermitRootLogin prohibit-password\n',
    'etc/ssh/ssh_host_ed25519_key': 'the key of every copy\n',
    'etc/ssh/ssh_host_ed25519_key.pub': 'the key of every copy\n',
  })
  for (const name of ['bin', 'sbin', 'root', 'home/alice', 'usr/bin', 'tmp', 'var/lib']) {
    await mkdir(join(root, name), { recursive: true })
  }
  await execa('chown', ['1000:1001', join(root, 'home/alice')])
  const { stdout: busybox } = await execa('which', ['busybox'])
  await copyFile(busybox, join(root, 'bin/busybox'))
  const applets = ['sh', 'cat', 'sleep', 'echo', 'dd', 'id', 'setsid', 'mkdir', 'touch', 'true', 'ls', 'pwd']
  for (const applet of applets) await symlink('busybox', join(root, 'bin', applet))
  await symlink('../bin/busybox', join(root, 'sbin/init'))
}

/** What of each system that configures networks is in a tree. */
export const networkTrees = {
  netplan: {
    'usr/sbin/netplan': '',
    'etc/netplan/50-cloud-init.yaml': 'network:\n  ethernets:\n    ens3:\n      dhcp4: true\n',
  },
  NetworkManager: {
    'usr/sbin/NetworkManager': '',
    'etc/systemd/system/multi-user.target.wants/NetworkManager.service': '',
    'etc/NetworkManager/system-connections/old.nmconnection': '[connection]\ninterface-name=ens9\n',
  },
  'systemd-networkd': {
    'usr/lib/systemd/systemd-networkd': '',
    'etc/systemd/system/multi-user.target.wants/systemd-networkd.service': '',
    'etc/systemd/network/50-dhcp.network': '[Match]\nName=ens4\n[Network]\nAddress=192.0.2.7/24\n',
  },
  ifupdown: {
    'usr/sbin/ifup': '',
    'etc/network/interfaces':
      'auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n  address 192.0.2.9/24\n',
    'etc/network/interfaces.d/extra': 'auto eth1\niface eth1 inet dhcp\n',
  },
} as const satisfies Record<string, Readonly<Record<string, string>>>
