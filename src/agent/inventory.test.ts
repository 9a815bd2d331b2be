import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { Value } from 'typebox/value'
import { expect, test } from 'vitest'
import { inventory } from '../contract/types.ts'
import { readDiskIdentity } from './disk-identity.ts'
import { lookAtMachine, parseLsblk } from './inventory.ts'
import { ownFolder } from './test-image.ts'

const captured = (name: string) => readFile(join(import.meta.dirname, 'testdata', name), 'utf8')

test('this machine is described as the contract has it', async () => {
  const look = await lookAtMachine(new AbortController().signal)
  expect(look.problem).toBeUndefined()
  expect([...Value.Errors(inventory, look.inventory)]).toEqual([])
  expect(look.inventory.cpuCount).toBe(cpus().length)
  expect(look.inventory.disks.length).toBeGreaterThan(0)
  // This very test runs from one of them, or from a file system that hides it.
  for (const disk of look.disks) expect(disk.path).toMatch(/^\/dev\//)
})

test('a server shows its disks and nothing else, an array that nobody has mounted holding none', async () => {
  const disks = parseLsblk(await captured('lsblk-2.38-server.json'))
  expect(disks).toEqual([
    {
      path: '/dev/sda',
      sizeBytes: 480103981056,
      sectorBytes: 512,
      rotational: false,
      transport: 'sata',
      model: 'SAMSUNG MZ7LH480HAHQ-00005',
      serial: 'S45PNA0M812345',
      wwn: '0x5002538e49812345',
    },
    {
      path: '/dev/sdb',
      sizeBytes: 4000787030016,
      sectorBytes: 512,
      rotational: true,
      transport: 'sas',
      model: 'ST4000NM0023',
      serial: 'Z1Z0AAAA0000C123ABCD',
      wwn: '0x5000c50056789abc',
    },
    {
      path: '/dev/nvme0n1',
      sizeBytes: 3840755982336,
      sectorBytes: 4096,
      rotational: false,
      transport: 'nvme',
      model: 'INTEL SSDPE2KX040T8',
      serial: 'PHLJ9401023P4P0DGN',
      wwn: 'eui.01000000010000005cd2e4a1b2c35151',
      notUsable: 'it is read-only',
    },
  ])
})

test('an lsblk that writes numbers as strings is understood', async () => {
  expect(parseLsblk(await captured('lsblk-old-strings.json'))).toEqual([
    {
      path: '/dev/vda',
      sizeBytes: 2147483648,
      sectorBytes: 512,
      rotational: true,
      notUsable: '/dev/vda1 is mounted at /boot',
    },
  ])
})

test('what is no answer of lsblk is an error and not a machine without disks', () => {
  expect(() => parseLsblk('{}')).toThrow('without blockdevices')
  expect(() => parseLsblk('')).toThrow()
})

/** A sysfs of one disk: `files` below its folder, and beside it whatever starts with a slash. */
async function sysfs(name: string, devicePath: string, files: Readonly<Record<string, string>>) {
  const own = await ownFolder()
  const at = join(own.folder, 'devices', devicePath)
  await mkdir(at, { recursive: true })
  await mkdir(join(own.folder, 'block'))
  await symlink(join('..', 'devices', devicePath), join(own.folder, 'block', name))
  for (const [path, text] of Object.entries(files)) {
    const file = path.startsWith('/') ? join(own.folder, path) : join(at, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text, 'latin1')
  }
  return own
}

const identities: readonly [string, string, string, Readonly<Record<string, string>>, object][] = [
  [
    'virtio',
    'vda',
    'pci0000:00/0000:00:04.0/virtio2/block/vda',
    { serial: 'disk-1' },
    { serial: 'disk-1', byPath: '/dev/disk/by-path/pci-0000:00:04.0' },
  ],
  [
    'NVMe',
    'nvme0n1',
    'pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0/nvme0n1',
    { 'device/serial': 'PHLJ1    \n', wwid: 'eui.0100\n', nsid: '1\n' },
    { serial: 'PHLJ1', wwn: 'eui.0100', byPath: '/dev/disk/by-path/pci-0000:01:00.0-nvme-1' },
  ],
  [
    'SATA',
    'sdb',
    'pci0000:00/0000:00:1f.2/ata5/host4/target4:0:0/4:0:0:0/block/sdb',
    {
      'device/vpd_pg80': '\x00\x80\x00\x08S45PNA0M',
      'device/wwid': 'naa.5002538e49812345\n',
      '/class/ata_port/ata5/port_no': '3\n',
    },
    { serial: 'S45PNA0M', wwn: '0x5002538e49812345', byPath: '/dev/disk/by-path/pci-0000:00:1f.2-ata-3' },
  ],
  [
    'virtio SCSI',
    'sdc',
    'pci0000:00/0000:00:05.0/virtio3/host7/target7:0:2/7:0:2:1/block/sdc',
    { 'device/wwid': 't10.QEMU drive\n', '/devices/pci0000:00/0000:00:05.0/virtio3/host6/x': '' },
    { byPath: '/dev/disk/by-path/pci-0000:00:05.0-scsi-1:0:2:1' },
  ],
  [
    'USB',
    'sdd',
    'pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host9/target9:0:0/9:0:0:0/block/sdd',
    { 'device/serial': '' },
    {},
  ],
]
test.each(identities)('a %s disk is known without udev', async (_, name, devicePath, files, expected) => {
  const own = await sysfs(name, devicePath, files)
  expect(await readDiskIdentity(name, own.folder)).toEqual(expected)
  await own.remove()
})
