import { expect, test } from 'vitest'
import { Failure } from '../model/failure.ts'
import { chooseDisk } from './choose-disk.ts'
import type { SeenDisk } from './inventory.ts'

const image = { sizeBytes: 4_000_000_000, sectorBytes: 512 } as const
const ssd: SeenDisk = {
  path: '/dev/sda',
  sizeBytes: 480_000_000_000,
  sectorBytes: 512,
  rotational: false,
  model: 'FAST 1',
}
const hdd: SeenDisk = {
  path: '/dev/sdb',
  sizeBytes: 4_000_000_000_000,
  sectorBytes: 512,
  rotational: true,
  serial: 'Z1',
}

function refusalOf(work: () => unknown): Failure {
  try {
    work()
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
  throw new Error('it was not refused')
}

test('the only disk is chosen without any hint', () => {
  expect(chooseDisk([ssd], [], image)).toBe(ssd)
})

test('a hint picks one of two', () => {
  expect(chooseDisk([ssd, hdd], [{ property: 'rotational', operator: 'eq', value: 'true' }], image)).toBe(hdd)
})

test('no disk at all is said as such', () => {
  expect(refusalOf(() => chooseDisk([], [], image))).toMatchObject({
    code: 'disk-none',
    message: "no disk meets the setup's hints; seen: no disk at all",
  })
})

test('each disk is listed with the hints that it does not meet', () => {
  const failure = refusalOf(() =>
    chooseDisk(
      [ssd, hdd],
      [
        { property: 'model', operator: 'contains', value: 'fast' },
        { property: 'size', operator: 'ge', value: '1000000000000' },
      ],
      image,
    ),
  )
  expect(failure.code).toBe('disk-none')
  expect(failure.message).toBe(
    "no disk meets the setup's hints; seen: " +
      '/dev/sda (480000000000 bytes, not rotational, model FAST 1): not size ge 1000000000000; ' +
      '/dev/sdb (4000000000000 bytes, rotational, serial Z1): not model contains fast',
  )
})

test('several disks that fit are refused, with all that fit and all that do not', () => {
  const third = { ...ssd, path: '/dev/sdc' }
  const hints = [{ property: 'rotational', operator: 'eq', value: 'false' }] as const
  const failure = refusalOf(() => chooseDisk([ssd, hdd, third], hints, image))
  expect(failure.code).toBe('disk-ambiguous')
  expect(failure.message).toMatch(
    /^2 disks meet the setup's 1 hints: \/dev\/sda .*; \/dev\/sdc .*; not these: \/dev\/sdb/,
  )
})

test('what the image needs does not decide between two disks', () => {
  const busy = { ...hdd, notUsable: '/dev/sdb is mounted at /' }
  const small = { ...hdd, sizeBytes: 1000 }
  const other = { ...hdd, sectorBytes: 4096 }
  for (const second of [busy, small, other]) {
    expect(refusalOf(() => chooseDisk([ssd, second], [], image)).code).toBe('disk-ambiguous')
  }
})

test('an image larger than the disk is refused with both sizes', () => {
  const failure = refusalOf(() => chooseDisk([ssd], [], { ...image, sizeBytes: 480_000_000_001 }))
  expect(failure.code).toBe('image-too-large')
  expect(failure.message).toBe('the image takes a disk of 480000000001 bytes, /dev/sda has 480000000000 bytes')
})

test("a disk of the image's very size is large enough", () => {
  expect(chooseDisk([ssd], [], { ...image, sizeBytes: ssd.sizeBytes })).toBe(ssd)
})
