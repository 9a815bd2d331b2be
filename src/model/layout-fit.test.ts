import { expect, test } from 'vitest'
import { Failure } from './failure.ts'
import { checkImages, firmwareWarnings, type KnownImage, refuseDisk } from './layout-fit.ts'
import { parseSetup } from './setup.ts'

const setupOf = (inside: string) => parseSetup(`<setup xmlns="urn:hades:setup:1" name="demo">${inside}</setup>`)
const gib = 2 ** 30

const whole = '<disk><image>a:1</image></disk>'
const partitioned = (content: string, size = '4GiB') =>
  `<disk><table type="gpt"><partition size="${size}">${content}</partition></table></disk>`
const unpacked = '<filesystem type="ext4"><image>a:1</image></filesystem>'

function problemOf(inside: string, image: KnownImage): string | undefined {
  return checkImages(setupOf(inside).layout, new Map([['a:1', image]]))?.sentence
}

test.each([
  ['a disk on a disk', whole, 'disk', undefined],
  ['a disk in a partition', partitioned('<image>a:1</image>'), 'disk', /`system:1`: image a:1 is one of a whole disk/],
  ['a partition in a partition', partitioned('<image>a:1</image>'), 'partition', undefined],
  ['a partition on a whole disk', whole, 'partition', undefined],
  ['a tar in a file system', partitioned(unpacked), 'tar', undefined],
  ['a tar in a bare partition', partitioned('<image>a:1</image>'), 'tar', /inside a `filesystem`/],
  ['a tar on a bare disk', whole, 'tar', /inside a `filesystem`/],
  ['a partition in a file system', partitioned(unpacked), 'partition', /only a tar is unpacked/],
  ['a kind that is not known', partitioned('<image>a:1</image>'), undefined, undefined],
] as const)('%s', (_, inside, kind, problem) => {
  const found = problemOf(inside, { kind, sizeBytes: gib })
  if (problem === undefined) expect(found).toBeUndefined()
  else expect(found).toMatch(problem)
})

test('an image larger than the place that is made for it is found without any disk', () => {
  const image = { kind: 'partition', sizeBytes: 4 * gib + 1 }
  expect(problemOf(partitioned('<image>a:1</image>'), image)).toBe(
    '`system:1`: image a:1 has 4294967297 bytes, and the place has 4294967296: make it larger',
  )
  expect(problemOf(partitioned('<image>a:1</image>', 'grow'), image)).toBeUndefined()
  const tar = { kind: 'tar', sizeBytes: 5 * gib }
  expect(problemOf(partitioned(unpacked), tar)).toMatch(/`system:1`: image a:1 takes 5368709120 bytes/)
})

const disk = { path: '/dev/sda', sizeBytes: 8 * gib, sectorBytes: 512, rotational: false }

function refusalOf(inside: string, image: KnownImage): unknown {
  const [wanted] = setupOf(inside).layout.disks
  try {
    if (wanted) refuseDisk(wanted, disk, new Map([['a:1', image]]))
  } catch (error) {
    if (error instanceof Failure) return { code: error.code, message: error.message }
    throw error
  }
  return undefined
}

test('partitions that take more than the disk has are told with both figures', () => {
  const two = (a: string, b: string) =>
    `<disk><table type="gpt"><partition size="${a}"><image>a:1</image></partition><partition size="${b}"><swap/></partition></table></disk>`
  expect(refusalOf(two('4GiB', '4095MiB'), { sizeBytes: gib })).toEqual({
    code: 'image-too-large',
    message: 'the partitions of disk `system` take 8590983168 bytes at least, /dev/sda has 8589934592 bytes',
  })
  expect(refusalOf(two('4GiB', '4094MiB'), { sizeBytes: gib })).toBeUndefined()
  // Half of the disk is too little for its image, and beside it there is not enough.
  expect(refusalOf(two('50%', '3GiB'), { sizeBytes: 6 * gib })).toMatchObject({ code: 'image-too-large' })
  expect(refusalOf(two('50%', '1GiB'), { sizeBytes: 4 * gib })).toBeUndefined()
})

test('an image of a whole disk must have its sectors, where they are known', () => {
  expect(refusalOf(whole, { kind: 'disk', sizeBytes: gib, sectorBytes: 4096 })).toMatchObject({
    code: 'disk-none',
    message: expect.stringContaining('sectors of 512 bytes'),
  })
  expect(refusalOf(whole, { kind: 'disk', sizeBytes: gib })).toBeUndefined()
  expect(refusalOf(whole, { sizeBytes: 9 * gib })).toMatchObject({ code: 'image-too-large' })
})

test('a table that the firmware may not start is warned of', () => {
  const table = (type: string, partitions: string, more = '') =>
    setupOf(`<disk><table type="${type}">${partitions}</table></disk>${more}`)
  const root = '<partition size="1GiB"><image>a:1</image></partition>'
  const esp = '<partition size="1GiB" type="esp"/>'
  const warnings = (setup: ReturnType<typeof table>, firmware: 'bios' | 'uefi') =>
    firmwareWarnings(setup.layout, setup.postInstall, firmware).join()
  expect(warnings(table('mbr', root), 'uefi')).toMatch(/UEFI.*esp/)
  expect(warnings(table('mbr', root), 'bios')).toBe('')
  expect(warnings(table('gpt', esp + root), 'uefi')).toBe('')
  expect(warnings(table('gpt', esp + root), 'bios')).toMatch(/made for UEFI/)
  const loader = '<post-install><boot-loader/></post-install>'
  expect(warnings(table('gpt', root, loader), 'bios')).toMatch(/bios-boot/)
  expect(firmwareWarnings(setupOf(whole).layout, undefined, 'uefi')).toEqual([])
})
