import { expect, test } from 'vitest'
import { type Candidate, chooseDisks, refuseMisfit, refuseUnusable } from './choose-disk.ts'
import { Failure } from './failure.ts'
import type { DiskHint } from './host.ts'

const image = { sizeBytes: 4_000_000_000, sectorBytes: 512 } as const
const ssd: Candidate = {
  path: '/dev/sda',
  sizeBytes: 480_000_000_000,
  sectorBytes: 512,
  rotational: false,
  model: 'FAST 1',
}
const hdd: Candidate = {
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

const choose = (disks: readonly Candidate[], hints: readonly DiskHint[] = []) =>
  chooseDisks(disks, [{ name: 'system', hints }]).get('system')
const turning: DiskHint = { property: 'rotational', operator: 'eq', value: 'true' }
const still: DiskHint = { ...turning, value: 'false' }

test('the only disk is chosen without any hint', () => {
  expect(choose([ssd])).toBe(ssd)
})

test('a hint picks one of two', () => {
  expect(choose([ssd, hdd], [turning])).toBe(hdd)
})

test('a name without hints takes the disk that the others leave, wherever it stands', () => {
  const chosen = chooseDisks(
    [ssd, hdd],
    [
      { name: 'data', hints: [] },
      { name: 'system', hints: [still] },
    ],
  )
  expect(Object.fromEntries(chosen)).toEqual({ system: ssd, data: hdd })
})

test('one disk never serves two names', () => {
  const both = () =>
    chooseDisks(
      [ssd, hdd],
      [
        { name: 'a', hints: [still] },
        { name: 'b', hints: [{ property: 'model', operator: 'contains', value: 'fast' }] },
      ],
    )
  expect(refusalOf(both)).toMatchObject({
    code: 'disk-ambiguous',
    message: 'disk `a` and disk `b` both take /dev/sda (480000000000 bytes, not rotational, model FAST 1)',
  })
  const none = () =>
    chooseDisks(
      [ssd],
      [
        { name: 'a', hints: [still] },
        { name: 'b', hints: [] },
      ],
    )
  expect(refusalOf(none)).toMatchObject({
    code: 'disk-none',
    message:
      'no disk is left for disk `b`, which has no hints; seen: /dev/sda (480000000000 bytes, not rotational, model FAST 1): taken by disk `a`',
  })
})

test('no disk at all is said as such', () => {
  expect(refusalOf(() => choose([]))).toMatchObject({
    code: 'disk-none',
    message: 'no disk is left for disk `system`, which has no hints; seen: no disk at all',
  })
})

test('each disk is listed with the hints that it does not meet', () => {
  const failure = refusalOf(() =>
    choose(
      [ssd, hdd],
      [
        { property: 'model', operator: 'contains', value: 'fast' },
        { property: 'size', operator: 'ge', value: '1000000000000' },
      ],
    ),
  )
  expect(failure.code).toBe('disk-none')
  expect(failure.message).toBe(
    'no disk meets the hints of disk `system`; seen: ' +
      '/dev/sda (480000000000 bytes, not rotational, model FAST 1): not size ge 1000000000000; ' +
      '/dev/sdb (4000000000000 bytes, rotational, serial Z1): not model contains fast',
  )
})

test('several disks that fit are refused, with all that fit and all that do not', () => {
  const third = { ...ssd, path: '/dev/sdc' }
  const failure = refusalOf(() => choose([ssd, hdd, third], [still]))
  expect(failure.code).toBe('disk-ambiguous')
  expect(failure.message).toMatch(
    /^2 disks meet the hints of disk `system`: \/dev\/sda .*; \/dev\/sdc .*; not these: \/dev\/sdb/,
  )
})

test('what the image needs does not decide between two disks', () => {
  const busy = { ...hdd, notUsable: '/dev/sdb is mounted at /' }
  for (const second of [busy, { ...hdd, sizeBytes: 1000 }, { ...hdd, sectorBytes: 4096 }]) {
    expect(refusalOf(() => choose([ssd, second])).code).toBe('disk-ambiguous')
  }
  expect(refusalOf(() => refuseUnusable(busy)).message).toMatch(/cannot be used: \/dev\/sdb is mounted at \//)
})

test('an image larger than the disk, or of other sectors, is refused with both figures', () => {
  const large = refusalOf(() => refuseMisfit(ssd, { ...image, sizeBytes: 480_000_000_001 }))
  expect(large.code).toBe('image-too-large')
  expect(large.message).toBe('the image takes a disk of 480000000001 bytes, /dev/sda has 480000000000 bytes')
  expect(refusalOf(() => refuseMisfit({ ...ssd, sectorBytes: 4096 }, image))).toMatchObject({
    code: 'disk-none',
    message: expect.stringContaining('sectors of 4096 bytes'),
  })
})

test("a disk of the image's very size is large enough", () => {
  expect(() => refuseMisfit(ssd, { ...image, sizeBytes: ssd.sizeBytes })).not.toThrow()
})
