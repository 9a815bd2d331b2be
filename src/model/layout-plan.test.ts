import { expect, test } from 'vitest'
import { Failure } from './failure.ts'
import type { Layout } from './layout.ts'
import {
  type DiskTable,
  extentBytes,
  type LayoutPlan,
  type PlanDisk,
  type PlanImage,
  planLayout,
} from './layout-plan.ts'
import { parseSetup } from './setup.ts'

const MiB = 1024 ** 2
const GiB = 1024 ** 3

const layoutOf = (inside: string): Layout =>
  parseSetup(`<setup xmlns="urn:hades:setup:1" name="demo">${inside}</setup>`).layout

const table = (partitions: string, type = 'gpt') =>
  layoutOf(
    `<disk><table type="${type}"><partition size="1GiB"><image>a:1</image></partition>${partitions}</table></disk>`,
  )

const disk: PlanDisk = { path: '/dev/sda', sizeBytes: 10 * GiB, sectorBytes: 512 }
const images = new Map<string, PlanImage>([
  ['a:1', { sizeBytes: GiB, sectorBytes: 512, kind: 'partition' }],
  ['disk:1', { sizeBytes: 2 * GiB, sectorBytes: 512, kind: 'disk' }],
  ['tree:1', { sizeBytes: GiB, sectorBytes: 512, kind: 'tar' }],
])

const plan = (layout: Layout, over: Partial<PlanDisk> = {}) =>
  planLayout(layout, new Map(layout.disks.map(({ name }) => [name, { ...disk, ...over }])), images)

/** `number: from-to` in MiB of the first disk. */
const rangesOf = ({ disks }: LayoutPlan) =>
  disks[0]?.partitions.map(({ partition, offset, length }) => {
    return `${partition.number}: ${offset / MiB}-${(offset + length) / MiB}`
  })

test.each([
  [
    'one behind the other',
    '<partition size="2GiB"/><partition size="512MiB"/>',
    {},
    ['1: 1-1025', '2: 1025-3073', '3: 3073-3585'],
  ],
  ['bytes are rounded up to a MiB', '<partition size="1000000000"/>', {}, ['1: 1-1025', '2: 1025-1979']],
  ['what grows takes the rest', '<partition size="grow"/>', {}, ['1: 1-1025', '2: 1025-10239']],
  [
    'what grows leaves room for what follows',
    '<partition size="grow"/><partition size="1GiB"/>',
    {},
    ['1: 1-1025', '2: 1025-9215', '3: 9215-10239'],
  ],
  ['a percentage is of the whole', '<partition size="50%"/>', {}, ['1: 1-1025', '2: 1025-6144']],
  ['a start leaves a gap', '<partition start="4GiB" size="1GiB"/>', {}, ['1: 1-1025', '2: 4096-5120']],
  ['sectors of 4096 bytes', '<partition size="grow"/>', { sectorBytes: 4096 }, ['1: 1-1025', '2: 1025-10239']],
  [
    'a disk that ends beside a MiB',
    '<partition size="grow"/>',
    { sizeBytes: 4 * GiB + 512 * 77 },
    ['1: 1-1025', '2: 1025-4096'],
  ],
  [
    'a disk where the backup table just does not fit beside',
    '<partition size="grow"/>',
    { sizeBytes: 4 * GiB + 512 * 32 },
    ['1: 1-1025', '2: 1025-4095'],
  ],
] as const)('%s', (_, partitions, over, expected) => {
  expect(rangesOf(plan(table(partitions), over))).toEqual(expected)
})

test('an MBR ends where its numbers end', () => {
  expect(rangesOf(plan(table('<partition size="grow"/>', 'mbr'), { sizeBytes: 4096 * GiB }))).toEqual([
    '1: 1-1025',
    `2: 1025-${(2 ** 32 * 512) / MiB}`,
  ])
})

const refusals: readonly [string, Layout, Partial<PlanDisk>, string, RegExp][] = [
  [
    'more than the disk has',
    table('<partition size="9728MiB"/>'),
    {},
    'disk-none',
    /`system:2` needs 10200547328 bytes from/,
  ],
  [
    'nothing left to grow into',
    table('<partition size="9214MiB"/><partition size="grow"/>'),
    {},
    'disk-none',
    /`system:3` needs/,
  ],
  [
    'a percentage that overlaps a start',
    table('<partition size="50%"/><partition start="2GiB" size="1GiB"/>'),
    {},
    'disk-none',
    /`system:3` would lie from 2147483648 .* and partition 2/,
  ],
  ['a start beside a MiB', table('<partition start="5000000000" size="1GiB"/>'), {}, 'disk-none', /no whole MiB/],
  [
    'an image larger than its place',
    layoutOf('<disk><table type="gpt"><partition size="1023MiB"><image>a:1</image></partition></table></disk>'),
    {},
    'image-too-large',
    /takes 1073741824 bytes, `system:1` has 1072693248 bytes/,
  ],
  [
    'an image larger than its disk',
    layoutOf('<disk><image>disk:1</image></disk>'),
    { sizeBytes: GiB },
    'image-too-large',
    /`system` has 1073741824 bytes/,
  ],
  [
    'other sectors than the image of a disk has',
    layoutOf('<disk><image>disk:1</image></disk>'),
    { sectorBytes: 4096 },
    'disk-none',
    /sectors of 4096 bytes/,
  ],
  [
    'a file system too small for its kind',
    table('<partition size="200MiB"><filesystem type="xfs"/></partition>'),
    {},
    'disk-none',
    /xfs needs/,
  ],
  ['an unknown image', layoutOf('<disk><image>no:1</image></disk>'), {}, 'bad-input', /no order for the image no:1/],
  [
    'a disk image to be unpacked',
    table('<partition size="2GiB"><filesystem type="ext4"><image>disk:1</image></filesystem></partition>'),
    {},
    'bad-input',
    /is of a disk, not a tar/,
  ],
  [
    'a tar as it is',
    table('<partition size="2GiB"><image>tree:1</image></partition>'),
    {},
    'bad-input',
    /put it inside a filesystem/,
  ],
  [
    'a table to keep where there is none',
    layoutOf('<disk><table type="keep"><partition number="1"><image>a:1</image></partition></table></disk>'),
    {},
    'disk-none',
    /which has none/,
  ],
]
test.each(refusals.filter(([, , , code]) => code !== 'none'))('refused: %s', (_, layout, over, code, words) => {
  let failure: unknown
  try {
    plan(layout, over)
  } catch (error) {
    failure = error
  }
  expect(failure).toBeInstanceOf(Failure)
  expect(failure).toMatchObject({ code, message: expect.stringMatching(words) })
})

const kept: DiskTable = {
  kind: 'gpt',
  usableOffset: MiB,
  usableEnd: 10 * GiB - 33 * 512,
  partitions: [
    { number: 1, offset: MiB, length: 512 * MiB, type: 'x' },
    { number: 2, offset: GiB, length: 2 * GiB, type: 'x' },
    { number: 4, offset: 4 * GiB, length: GiB, type: 'x' },
  ],
}
const keep = (partitions: string) => layoutOf(`<disk><table type="keep">${partitions}</table></disk>`)
const image = '<image>a:1</image>'

test('in a kept table partitions are found by number, and new ones lie behind all that are there', () => {
  const layout = keep(`<partition number="2">${image}</partition><partition number="4"><keep/></partition>
<partition number="5" size="1GiB"/><partition number="7" size="10%"/>`)
  const planned = plan(layout, { table: kept })
  expect(rangesOf(planned)).toEqual(['2: 1024-3072', '4: 4096-5120', '5: 5120-6144', '7: 6144-7167'])
  expect(planned.disks[0]?.partitions.map(({ isNew }) => isNew)).toEqual([false, false, true, true])
})

test('a partition that was added before, and is as the setup has it, is taken as it is', () => {
  const planned = plan(keep(`<partition number="2" size="2GiB">${image}</partition>`), { table: kept })
  expect(planned.disks[0]?.partitions[0]).toMatchObject({ isNew: false, offset: GiB, length: 2 * GiB })
})

test.each([
  [
    'a kept partition that is not there',
    `<partition number="3"><keep/></partition><partition number="2">${image}</partition>`,
    /there is no partition 3/,
  ],
  [
    'content for one that is not there',
    `<partition number="9">${image}</partition>`,
    /there is no partition 9 .* give it a size/,
  ],
  ['another size than the one there', `<partition number="2" size="3GiB">${image}</partition>`, /is there already/],
  [
    'one inside another that stays',
    `<partition number="9" start="2GiB" size="1GiB">${image}</partition>`,
    /and partition 2 from/,
  ],
] as const)('a kept table refuses %s', (_, partitions, words) => {
  expect(() => plan(keep(partitions), { table: kept })).toThrow(words)
})

test('what no partition has is told, and what stays is not in it', () => {
  expect(plan(keep(`<partition number="2">${image}</partition>`), { table: kept }).disks[0]?.unused).toEqual([
    { offset: 513 * MiB, length: 511 * MiB },
    { offset: 3 * GiB, length: GiB },
    { offset: 5 * GiB, length: 5 * GiB - MiB },
  ])
})

test('arrays and groups have the size that their members leave', () => {
  const member = (of: string, size: string) => `<partition size="${size}" type="raid"><member of="${of}"/></partition>`
  const on = (name: string, inside: string) =>
    `<disk name="${name}"><hint property="path" value="/dev/${name}"/><table type="gpt">${inside}</table></disk>`
  const layout = layoutOf(`
${on('a', member('md0', '1GiB') + member('md1', '1GiB') + member('efi', '128MiB') + member('ten', '1GiB'))}
${on('b', member('md0', '2GiB') + member('md1', '2GiB') + member('efi', '128MiB') + member('ten', '1GiB'))}
${on('c', `${member('ten', '1GiB')}<partition size="3GiB"><member of="vg0"/></partition>`)}
<raid name="md0" level="1"><member of="vg0"/></raid>
<raid name="md1" level="0"><filesystem type="ext4"/></raid>
<raid name="efi" level="1"><filesystem type="vfat" mount="/boot/efi"/></raid>
<raid name="ten" level="10"><filesystem type="ext4"/></raid>
<volume-group name="vg0"><volume name="root" size="1GiB"><filesystem type="ext4"><image>tree:1</image></filesystem></volume>
<volume name="home" size="25%"/><volume name="rest" size="grow"/></volume-group>`)
  const { arrays, groups, sizes } = plan(layout)
  expect(
    arrays.map(({ name, metadata, sizeBytes, bytesPerMember }) => [name, metadata, sizeBytes / MiB, bytesPerMember]),
  ).toEqual([
    ['md0', '1.2', 1008, 1008 * MiB],
    ['md1', '1.2', 1008 + 2032, undefined],
    ['efi', '1.0', 127, 127 * MiB],
    ['ten', '1.2', 1512, 1008 * MiB],
  ])
  // 251 extents of the array and 767 of the partition.
  expect(groups[0]?.volumes.map(({ extents }) => extents)).toEqual([256, 254, 508])
  expect(sizes.get('vg0/rest')).toBe(508 * extentBytes)
})

test('volumes that need more than the group has are refused', () => {
  const layout = layoutOf(`<disk><table type="gpt"><partition size="1GiB"><member of="vg0"/></partition></table></disk>
<volume-group name="vg0"><volume name="a" size="1GiB"><image>a:1</image></volume></volume-group>`)
  expect(() => plan(layout)).toThrow(
    'the volumes of `vg0` need at least 1073741824 bytes, and the group has 1069547520',
  )
})
