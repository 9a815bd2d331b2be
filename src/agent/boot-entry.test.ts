import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { decideBootChange, findLoader, parseBootOrder } from './boot-entry.ts'
import { findEfiSystemPartition, hasGpt } from './gpt.ts'
import { TargetRoot } from './post-install/target-root.ts'
import { put } from './post-install/test-system.ts'
import { ownFolder } from './test-image.ts'

const uuid = '8d2b1a3c-0f4e-4c55-9a77-0123456789ab'
const esp = { number: 2, uuid }
const network =
  'Boot0001* UEFI PXEv4 (MAC:525400123401)\tPciRoot(0x0)/Pci(0x2,0x0)/MAC(525400123401,1)/IPv4(0.0.0.0)N.....YM'
const firmware =
  'Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)'
/** Version 17 writes `/File(`, version 18 only `/`. */
const diskEntry = (number: string, guid = uuid, label = 'HaDeS disk') =>
  `Boot${number}* ${label}\tHD(2,GPT,${guid},0x1000,0x18000)/File(\\EFI\\BOOT\\BOOTX64.EFI)`
const listing = (order: string, ...entries: string[]) =>
  ['BootCurrent: 0001', 'Timeout: 0 seconds', `BootOrder: ${order}`, ...entries, ''].join('\n')
const decide = (text: string) => decideBootChange(parseBootOrder(text), esp, '\\EFI\\BOOT\\BOOTX64.EFI')

test('a firmware without an entry for the disk gets one', () => {
  expect(decide(listing('0001,0000', firmware, network))).toEqual({ create: true, remove: [], order: undefined })
})

test('an entry that is there moves to the front and the network stays next', () => {
  const text = listing('0001,0000,0003', firmware, network, diskEntry('0003'))
  expect(decide(text)).toEqual({ create: false, remove: [], order: ['0003', '0001', '0000'] })
})

test('an entry of another name and spelling for the same loader counts', () => {
  const text = listing(
    '0001',
    network,
    `Boot000A* disk\tHD(2,GPT,${uuid.toUpperCase()},0x1000,0x18000)/\\EFI\\boot\\bootx64.efi`,
  )
  expect(decide(text)).toEqual({ create: false, remove: [], order: ['000A', '0001'] })
})

test('a disk that is first already is left alone', () => {
  expect(decide(listing('0003,0001', network, diskEntry('0003')))).toEqual({
    create: false,
    remove: [],
    order: undefined,
  })
})

test('entries of earlier deployments are removed, those of other people are not', () => {
  const gone = '11111111-2222-3333-4444-555555555555'
  const text = listing('0004,0005,0001', network, diskEntry('0004', gone), diskEntry('0005', gone, 'debian'))
  expect(decide(text)).toEqual({ create: true, remove: ['0004'], order: undefined })
})

test('a firmware with an empty order is understood', () => {
  expect(parseBootOrder('No BootOrder is set; firmware will attempt recovery\n')).toEqual({ order: [], entries: [] })
})

test('the loader of a distribution is started where the default one is missing, and none is told from both', async () => {
  const own = await ownFolder()
  try {
    const tree = new TargetRoot(own.folder)
    expect(await findLoader(tree, 'x64')).toBeUndefined()
    await put(own.folder, { 'EFI/debian/grubx64.efi': '', 'EFI/debian/shimx64.efi': '', 'EFI/debian/BOOTX64.CSV': '' })
    expect(await findLoader(tree, 'x64')).toBe('\\EFI\\debian\\shimx64.efi')
    await put(own.folder, { 'EFI/boot/bootx64.efi': '' })
    expect(await findLoader(tree, 'x64')).toBe('\\EFI\\boot\\bootx64.efi')
    expect(await findLoader(tree, 'arm64')).toBeUndefined()
  } finally {
    await own.remove()
  }
})

test('the system partition of a table that sgdisk wrote is found by its GUID', async () => {
  const own = await ownFolder()
  const path = join(own.folder, 'disk.raw')
  await execa('truncate', ['--size', '64M', path])
  const partitions = ['--new=1:2048:4095', '--typecode=1:ef02', '--new=3:8192:16383', '--typecode=3:ef00']
  await execa('sgdisk', ['--clear', ...partitions, `--partition-guid=3:${uuid}`, path])
  const file = await open(path)
  const head = Buffer.alloc(1024 * 1024)
  await file.read(head, 0, head.length, 0)
  await file.close()
  await own.remove()
  expect(hasGpt(head, 512)).toBe(true)
  expect(findEfiSystemPartition(head, 512)).toEqual({ number: 3, uuid })
  expect(hasGpt(head, 4096)).toBe(false)
})

test('a disk without a table, or with a broken one, has no system partition', () => {
  expect(findEfiSystemPartition(Buffer.alloc(1024 * 1024), 512)).toBeUndefined()
  const broken = Buffer.alloc(1024 * 1024)
  broken.write('EFI PART', 512, 'latin1')
  broken.writeBigUInt64LE(2n ** 60n, 512 + 72)
  broken.writeUInt32LE(4_000_000_000, 512 + 80)
  broken.writeUInt32LE(128, 512 + 84)
  expect(findEfiSystemPartition(broken, 512)).toBeUndefined()
})
