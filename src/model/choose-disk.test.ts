import { expect, test } from 'vitest'
import { type Candidate, chooseDisks, refuseMisfit } from './choose-disk.ts'
import { Failure } from './failure.ts'
import type { DiskHint } from './host.ts'

/** The disk for a setup of one. */
const chooseDisk = (disks: readonly Candidate[], hints: readonly DiskHint[]) =>
  chooseDisks(disks, [{ name: 'system', hints }]).get('system')

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

test('the only disk is chosen without any hint', () => {
  expect(chooseDisk([ssd], [])).toBe(ssd)
})

test('a hint picks one of two', () => {
  expect(chooseDisk([ssd, hdd], [{ property: 'rotational', operator: 'eq', value: 'true' }])).toBe(hdd)
})

test('no disk at all is said as such', () => {
  expect(refusalOf(() => chooseDisk([], []))).toMatchObject({
    code: 'disk-none',
    message: "no disk meets the setup's hints for `system`; seen: no disk at all",
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
    ),
  )
  expect(failure.code).toBe('disk-none')
  expect(failure.message).toBe(
    "no disk meets the setup's hints for `system`; seen: " +
      '/dev/sda (480000000000 bytes, not rotational, model FAST 1): not size ge 1000000000000; ' +
      '/dev/sdb (4000000000000 bytes, rotational, serial Z1): not model contains fast',
  )
})

test('several disks that fit are refused, with all that fit and all that do not', () => {
  const third = { ...ssd, path: '/dev/sdc' }
  const hints = [{ property: 'rotational', operator: 'eq', value: 'false' }] as const
  const failure = refusalOf(() => chooseDisk([ssd, hdd, third], hints))
  expect(failure.code).toBe('disk-ambiguous')
  expect(failure.message).toMatch(
    /^2 disks meet the setup's 1 hints for `system`: \/dev\/sda .*; \/dev\/sdc .*; not these: \/dev\/sdb/,
  )
})

test('what is in use does not decide between two disks, and is refused where it is the only one', () => {
  const busy = { ...hdd, notUsable: '/dev/sdb is mounted at /' }
  expect(refusalOf(() => chooseDisk([ssd, busy], [])).code).toBe('disk-ambiguous')
  expect(refusalOf(() => chooseDisk([busy], []))).toMatchObject({
    code: 'disk-none',
    message: expect.stringContaining('cannot be used: /dev/sdb is mounted at /'),
  })
})

const serial = { property: 'serial', operator: 'eq', value: 'Z1' } as const

test.each([['the named one first'], ['the named one last']])(
  "a disk that another name takes is nobody else's: %s",
  (order) => {
    const wanted = [
      { name: 'data', hints: [serial] },
      { name: 'system', hints: [] },
    ]
    const chosen = chooseDisks([ssd, hdd], order.endsWith('first') ? wanted : wanted.toReversed())
    expect([chosen.get('data'), chosen.get('system')]).toEqual([hdd, ssd])
  },
)

test('two names that only one disk fits are refused, and so are two that fit the same two disks', () => {
  const twice = ['a', 'b'].map((name) => ({ name, hints: [serial] }))
  expect(refusalOf(() => chooseDisks([ssd, hdd], twice))).toMatchObject({
    code: 'disk-none',
    message: expect.stringContaining('/dev/sdb (4000000000000 bytes, rotational, serial Z1): taken by `a`'),
  })
  const any = ['a', 'b'].map((name) => ({ name, hints: [] }))
  expect(refusalOf(() => chooseDisks([ssd, hdd], any)).code).toBe('disk-ambiguous')
})

test('an image larger than the disk, or of other sectors, is refused with both figures', () => {
  const image = { sizeBytes: ssd.sizeBytes, sectorBytes: 512 } as const
  expect(() => refuseMisfit(ssd, image)).not.toThrow()
  expect(refusalOf(() => refuseMisfit(ssd, { ...image, sizeBytes: ssd.sizeBytes + 1 }))).toMatchObject({
    code: 'image-too-large',
    message: 'the image takes a disk of 480000000001 bytes, /dev/sda has 480000000000 bytes',
  })
  expect(refusalOf(() => refuseMisfit({ ...ssd, sectorBytes: 4096 }, image))).toMatchObject({
    code: 'disk-none',
    message: expect.stringContaining('sectors of 4096 bytes'),
  })
})
