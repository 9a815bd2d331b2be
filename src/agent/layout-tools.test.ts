// The commands and answers of the tools that lay out disks; what they do together is tested in prepare.test.ts, and with
// arrays and volumes on real machines in test/examples.test.ts.
import { expect, test } from 'vitest'
import { arrayCommand } from './composed-devices.ts'
import { type DeviceTree, findTwin, holdersOf, parseDeviceTrees } from './device-tree.ts'
import { faultOf, parseTable, problemsOf, typeIn } from './partition-table.ts'
import { parseSignature } from './signature.ts'
import { spillPlaces } from './spill-disk.ts'
import { signatureRanges } from './wipe-range.ts'

const MiB = 1024 ** 2
const GiB = 1024 ** 3

test('an array for an EFI system partition has its superblock at the end, others data where it was planned', () => {
  const content = { kind: 'empty' } as const
  const common = { members: ['a:1', 'b:1'], sizeBytes: 64 * MiB, content }
  const efi = { ...common, name: 'efi', level: '1', metadata: '1.0', bytesPerMember: 63 * MiB } as const
  expect(arrayCommand(efi, '/dev/md0', ['/dev/sda1', '/dev/sdb1']).slice(3)).toEqual(
    '--run --force --level=1 --raid-devices=2 --metadata=1.0 --name=efi --homehost=any --size=64512K --assume-clean /dev/sda1 /dev/sdb1'.split(
      ' ',
    ),
  )
  const fast = { ...common, name: 'fast', level: '0', metadata: '1.2' } as const
  expect(arrayCommand(fast, '/dev/md1', ['/dev/sda2', '/dev/sdb2']).slice(5)).toEqual(
    '--level=0 --raid-devices=2 --metadata=1.2 --name=fast --homehost=any --chunk=512K --data-offset=16384K /dev/sda2 /dev/sdb2'.split(
      ' ',
    ),
  )
})

test('what holds a disk is stopped from the top, each once', () => {
  const volume = { path: '/dev/mapper/vg0-root', type: 'lvm' }
  const array = { path: '/dev/md0', type: 'raid1', children: [volume] }
  const parts = [1, 2].map((number) => ({ path: `/dev/sda${number}`, type: 'part', children: [array] }))
  const [tree] = parseDeviceTrees(
    JSON.stringify({ blockdevices: [{ path: '/dev/sda', type: 'disk', children: parts }] }),
  )
  expect(tree && holdersOf(tree).map(({ path }) => path)).toEqual(['/dev/mapper/vg0-root', '/dev/md0'])
})

test('a name that another disk has is found below it, UUIDs without regard to case', () => {
  const part: DeviceTree = { path: '/dev/sdb1', type: 'part', uuid: 'ABCD-1234', label: 'Data', children: [] }
  const trees: DeviceTree[] = [{ path: '/dev/sdb', type: 'disk', children: [part] }]
  const fixed = { place: 'system:1', kind: 'uuid', name: 'abcd-1234' } as const
  expect(findTwin([fixed], trees)).toEqual({ fixed, path: '/dev/sdb1' })
  expect(findTwin([{ place: 'system:1', kind: 'label', name: 'data' }], trees)).toBeUndefined()
})

test('what blkid says is read, with what it wrote for a shell taken back', () => {
  expect(
    parseSignature('DEVNAME=/dev/sda1\nLABEL=my\\ data\nUUID=ABCD-1234\nTYPE=vfat\nPART_ENTRY_UUID=AA-BB\n'),
  ).toEqual({
    type: 'vfat',
    uuid: 'ABCD-1234',
    label: 'my data',
    partitionUuid: 'aa-bb',
  })
  expect(parseSignature('')).toEqual({})
})

test('a table counts in its own sectors', () => {
  const json = JSON.stringify({
    partitiontable: {
      label: 'gpt',
      firstlba: 6,
      lastlba: 262_138,
      sectorsize: 4096,
      partitions: [{ node: '/dev/nvme0n1p3', start: 256, size: 512, type: 'AA', uuid: 'BB' }],
    },
  })
  expect(parseTable(json, { path: '/dev/nvme0n1', sizeBytes: GiB, sectorBytes: 4096 })).toEqual({
    kind: 'gpt',
    usableOffset: 6 * 4096,
    usableEnd: 262_139 * 4096,
    partitions: [{ number: 3, offset: MiB, length: 2 * MiB, type: 'aa', uuid: 'bb' }],
  })
})

test.each([
  [
    'one behind the end',
    [{ number: 1, offset: MiB, length: 2 * GiB, type: '83' }],
    'partition 1 ends behind the end of the disk',
  ],
  [
    'two that overlap',
    [
      { number: 2, offset: 2 * MiB, length: MiB, type: '83' },
      { number: 1, offset: MiB, length: 2 * MiB, type: '83' },
    ],
    'partitions 1 and 2 overlap',
  ],
  [
    'a logical one in its extended one',
    [
      { number: 1, offset: MiB, length: 8 * MiB, type: '05' },
      { number: 5, offset: 2 * MiB, length: MiB, type: '83' },
    ],
    undefined,
  ],
] as const)('a table with %s', (_, partitions, fault) => {
  expect(faultOf({ partitions }, GiB)).toBe(fault)
})

test('a backup table that is not at the end is no damage, a wrong checksum is', () => {
  expect(
    problemsOf(
      '\nProblem: The CRC for the main partition table is invalid. This table may be\ncorrupt.\n\nIdentified 1 problems!',
    ),
  ).toHaveLength(1)
  expect(
    problemsOf(
      "\nProblem: The secondary header's self-pointer indicates that it doesn't reside\nat the end of the disk.\n\nIdentified 1 problems!",
    ),
  ).toEqual([])
  expect(problemsOf('\nNo problems found. 124895 free sectors')).toEqual([])
})

test('types have their numbers in each table, and what is exact stays', () => {
  expect([typeIn('gpt', 'esp'), typeIn('mbr', 'windows'), typeIn('mbr', 'a5')]).toEqual([
    'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
    '07',
    'a5',
  ])
})

test('signatures are looked for at both ends of a range and where btrfs keeps copies', () => {
  expect(signatureRanges({ offset: GiB, length: MiB })).toEqual([{ offset: GiB, length: MiB }])
  expect(signatureRanges({ offset: GiB, length: 300 * GiB })).toEqual([
    { offset: GiB, length: MiB },
    { offset: GiB + 64 * MiB, length: 4096 },
    { offset: GiB + 256 * GiB, length: 4096 },
    { offset: 301 * GiB - MiB, length: MiB },
  ])
})

test('pieces of images on partitions spill to what no partition has, each image to its own part', () => {
  const disk = { path: '/dev/sda', sizeBytes: 10 * GiB, sectorBytes: 512, rotational: false }
  const place = (name: string, partition?: number) => ({
    name,
    content: { kind: 'image', image: 'a:1' } as const,
    device: disk,
    disk,
    partition,
  })
  const targets = [place('a:1', 1), place('a:2', 2)].map((one) => ({ place: one, imageBytes: GiB }))
  const unused = new Map([
    [
      'a',
      [
        { offset: MiB, length: 8 * MiB },
        { offset: 8 * GiB, length: GiB },
      ],
    ],
  ])
  const found = spillPlaces(targets, unused)
  expect([...found].map(([name, { range }]) => [name, range.offset / MiB, range.length / MiB])).toEqual([
    ['a:1', 8193, 511],
    ['a:2', 8704, 511],
  ])
  expect(spillPlaces(targets, new Map([['a', [{ offset: MiB, length: 80 * MiB }]]])).size).toBe(0)
  expect(spillPlaces([{ place: place('a'), imageBytes: GiB }], new Map()).get('a')?.range.offset).toBe(1025 * MiB)
})
