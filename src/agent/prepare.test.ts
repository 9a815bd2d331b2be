import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { alignedBuffers } from '../lib/aligned-buffers.ts'
import { openLoop } from '../lib/block-devices.ts'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import { parseSetup } from '../model/setup.ts'
import type { SeenDisk } from './inventory.ts'
import { type Prepared, prepare } from './prepare.ts'
import { readSignature } from './signature.ts'
import { attachLoop, ownFolder } from './test-image.ts'

const MiB = 1024 ** 2
const signal = new AbortController().signal

let folder: string
let closers: (() => Promise<unknown>)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

type TestDisk = { readonly seen: SeenDisk; readonly file: string }

async function createDisk(serial: string, sizeMiB: number, sectorBytes: 512 | 4096 = 512): Promise<TestDisk> {
  const file = join(folder, `${serial}.raw`)
  const { device, detach } = await attachLoop(file, sizeMiB * MiB, sectorBytes)
  closers.push(detach)
  const seen = { path: device, sizeBytes: sizeMiB * MiB, sectorBytes, rotational: false, serial }
  return { seen, file }
}

const image: Manifest = {
  format: 1,
  sizeBytes: 8 * MiB,
  frameSizeBytes: 4 * MiB,
  storedBytes: 100,
  sectorBytes: 512,
  frames: [],
}

const zeros = () => alignedBuffers(1, 4 * MiB)[0] ?? Buffer.alloc(0)

async function prepareOn(disks: readonly TestDisk[], inside: string): Promise<Prepared> {
  const { layout } = parseSetup(`<setup xmlns="urn:hades:setup:1" name="demo">${inside}</setup>`)
  const inventory = { firmware: 'bios' as const, cpuModel: 'x', cpuCount: 1, memoryBytes: 1, disks: [], interfaces: [] }
  const look = { inventory, disks: disks.map(({ seen }) => seen) }
  const work = { look, layout, manifests: new Map([['a:1', image]]), zeros: zeros(), tell: async () => {} }
  const onErase = { begin: () => {}, progress: () => {}, erased: () => {} }
  const prepared = await prepare({ ...work, redeploy: 'full', onErase, onLayout: () => {} }, signal)
  await prepared.fileSystems.all()
  return prepared
}

const gpt = (partitions: string, name = 'system') =>
  `<disk name="${name}"><table type="gpt">${partitions}</table></disk>`
const root = '<partition size="16MiB" label="root"><image>a:1</image></partition>'

/** Each place as `type UUID LABEL`, by what the device itself says. */
async function found({ fileSystems }: Prepared): Promise<Record<string, string>> {
  const rows = fileSystems.places().map(async ({ name, device, uuid }): Promise<[string, string]> => {
    const { type, uuid: is, label } = await readSignature(device.path, signal)
    expect(uuid).toBe(is)
    return [name, [type, is, label].filter(Boolean).join(' ')]
  })
  return Object.fromEntries(await Promise.all(rows))
}

test.each([512, 4096] as const)(
  'a new GPT with a file system of each kind, sectors of %i bytes',
  async (sectorBytes) => {
    const disk = await createDisk('S1', 900, sectorBytes)
    // What lay there before: nothing of it may be found again.
    await execa('mkfs.btrfs', ['-q', '-f', disk.seen.path])
    const id = 'b5a1c6ee-0f4e-4a4e-8f5c-9e0f6d0c1a'
    const prepared = await prepareOn(
      [disk],
      gpt(`<partition size="40MiB" type="esp" uuid="${id}00"><filesystem type="vfat" label="ESP" uuid="ABCD-1234"/></partition>
${root}<partition size="64MiB" type="swap"><swap label="swap" uuid="${id}01"/></partition>
<partition size="100MiB"><filesystem type="ext4" label="data" uuid="${id}02"/></partition>
<partition size="310MiB"><filesystem type="xfs" label="logs" uuid="${id}03"/></partition>
<partition size="120MiB"><filesystem type="btrfs" label="tree" uuid="${id}04"/></partition>
<partition size="32MiB" type="windows"><filesystem type="ntfs" label="Windows" uuid="0123456789ABCDEF"/></partition>
<partition size="grow"/>`),
    )
    expect(await found(prepared)).toEqual({
      'system:1': 'vfat ABCD-1234 ESP',
      'system:2': '',
      'system:3': `swap ${id}01 swap`,
      'system:4': `ext4 ${id}02 data`,
      'system:5': `xfs ${id}03 logs`,
      'system:6': `btrfs ${id}04 tree`,
      'system:7': 'ntfs 0123456789ABCDEF Windows',
      'system:8': '',
    })
    expect((await execa('sgdisk', ['--verify', disk.seen.path])).stdout).toContain('No problems found')
    expect(prepared.esp).toMatchObject({ esp: { number: 1, uuid: `${id}00` } })
    expect(prepared.unused.get('system')).toEqual([])
  },
)

test('an MBR, and a file system without names, which gets a UUID', async () => {
  const disk = await createDisk('S1', 100)
  const prepared = await prepareOn(
    [disk],
    `<disk><table type="mbr"><partition size="16MiB"><image>a:1</image></partition>
<partition size="grow" type="07"><filesystem type="ext4"/></partition></table></disk>`,
  )
  const { stdout } = await execa('sfdisk', ['--dump', disk.seen.path])
  expect(stdout).toMatch(/label: dos[\s\S]*start= +2048, size= +32768, type=83\n.*start= +34816, size= +169984, type=7/)
  expect(await found(prepared)).toMatchObject({ 'system:2': expect.stringMatching(/^ext4 [0-9a-f-]{36}$/) })
})

const bytesOf = async ({ file }: TestDisk, offset: number, length: number) =>
  createHash('sha256')
    .update((await readFile(file)).subarray(offset, offset + length))
    .digest('hex')

test('what is kept stays byte for byte, beside a partition that is written anew and one that is added', async () => {
  const disk = await createDisk('S1', 200)
  await prepareOn([disk], gpt(`${root}<partition size="50MiB"><filesystem type="ext4" label="home"/></partition>`))
  const before = await bytesOf(disk, 17 * MiB, 50 * MiB)
  const prepared = await prepareOn(
    [disk],
    `<disk><table type="keep"><partition number="1"><filesystem type="ext4"/></partition>
<partition number="2"><keep/></partition><partition number="3" size="20MiB"><image>a:1</image></partition></table></disk>`,
  )
  expect(await bytesOf(disk, 17 * MiB, 50 * MiB)).toBe(before)
  expect(await found(prepared)).toMatchObject({
    'system:1': expect.stringMatching(/^ext4/),
    'system:2': expect.stringMatching(/home$/),
  })
  expect(prepared.unused.get('system')).toEqual([{ offset: 87 * MiB, length: 112 * MiB }])
})

test('several disks, one of them kept whole', async () => {
  const [system, data] = [await createDisk('S1', 64), await createDisk('D1', 32)]
  await execa('mkfs.ext4', ['-q', '-F', '-L', 'data', data.seen.path])
  const before = await bytesOf(data, 0, 32 * MiB)
  const keep = '<disk name="data"><hint property="serial" value="D1"/><keep/></disk>'
  const prepared = await prepareOn([system, data], gpt(root) + keep)
  expect(prepared.places.map(({ name, disk }) => [name, disk?.serial])).toEqual([
    ['system:1', 'S1'],
    ['data', 'D1'],
  ])
  expect(await bytesOf(data, 0, 32 * MiB)).toBe(before)
})

type Fault = readonly [string, (disk: TestDisk) => Promise<TestDisk[]>, string, string, RegExp]
const faults: readonly Fault[] = [
  [
    'the setup needs more than the disk has',
    async (disk) => [disk],
    gpt(`${root}<partition size="1GiB"/>`),
    'disk-none',
    /`system:2` needs/,
  ],
  ['two disks fit', async (disk) => [disk, await createDisk('S2', 64)], gpt(root), 'disk-ambiguous', /2 disks meet/],
  [
    'the image is not there',
    async (disk) => [disk],
    gpt('<partition><image>b:1</image></partition>'),
    'bad-input',
    /no order for the image b:1/,
  ],
  [
    'there is no table to keep',
    async (disk) => [disk],
    '<disk><table type="keep"><partition number="1"><image>a:1</image></partition></table></disk>',
    'disk-none',
    /which has none/,
  ],
  [
    'the table to keep is damaged',
    async (disk) => {
      await execa('sgdisk', ['--new=1:2048:40959', disk.seen.path])
      await execa('dd', ['if=/dev/urandom', `of=${disk.seen.path}`, 'bs=512', 'seek=1', 'count=1', 'conv=notrunc'])
      return [disk]
    },
    '<disk><table type="keep"><partition number="1"><image>a:1</image></partition></table></disk>',
    'disk-none',
    /is damaged: .*corrupt/,
  ],
  [
    'the disk takes no writes',
    async ({ file, seen }) => {
      // A second device over the same file, because a flag set on the first would outlive it.
      const { device: path, detach } = await openLoop(file, ['--read-only'])
      closers.push(detach)
      return [{ file, seen: { ...seen, path } }]
    },
    gpt(root),
    'disk-none',
    /takes no writes/,
  ],
  [
    'another disk has the label that the setup gives',
    async (disk) => {
      const other = await createDisk('S2', 32)
      await execa('mkfs.ext4', ['-q', '-F', '-L', 'home', other.seen.path])
      return [disk, other]
    },
    `<disk><hint property="serial" value="S1"/><table type="gpt">${root}<partition><filesystem type="ext4" label="home"/></partition></table></disk>`,
    'disk-ambiguous',
    /the label home, and \/dev\/loop\d+, which stays, has the same/,
  ],
]
test.each(faults)('nothing is written when %s', async (_, world, inside, code, words) => {
  const disk = await createDisk('S1', 64)
  const disks = await world(disk)
  const before = await bytesOf(disk, 0, 64 * MiB)
  const failure = await prepareOn(disks, inside).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(Failure)
  expect(failure).toMatchObject({ code, message: expect.stringMatching(words) })
  expect(await bytesOf(disk, 0, 64 * MiB)).toBe(before)
})
