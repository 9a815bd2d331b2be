import { expect, test } from 'vitest'
import { type ApprovedDisk, checkIdentity, isApproved, standingOf } from './approved-disk.ts'

const disk = { path: '/dev/sda', sizeBytes: 1000, model: 'FAST 1', serial: 'A1', wwn: '0x5000' }
const approved: ApprovedDisk[] = [{ name: 'system', sizeBytes: 1000, serial: 'A1', wwn: '0x5000' }]

test('a host whose disks nobody knows may have any of them overwritten', () => {
  expect(standingOf('system', disk, [])).toBe('first')
})

test.each([
  ['the same disk', disk, 'approved'],
  ['a serial number in other case', { ...disk, serial: 'a1' }, 'approved'],
  ['a disk whose driver tells no serial number', { ...disk, serial: undefined }, 'approved'],
  ['another serial number', { ...disk, serial: 'B2' }, 'new'],
  ['another world-wide name', { ...disk, wwn: '0x6000' }, 'new'],
  ['another size', { ...disk, sizeBytes: 2000 }, 'new'],
] as const)('%s is told apart', (_, seen, standing) => {
  expect(standingOf('system', seen, approved)).toBe(standing)
})

test('disks without any name are told apart by size and model', () => {
  const nameless = [{ name: 'system', sizeBytes: 1000, model: 'VIRT' }]
  const seen = { sizeBytes: 1000, model: 'virt' }
  expect(standingOf('system', seen, nameless)).toBe('approved')
  expect(standingOf('system', { ...seen, model: 'other' }, nameless)).toBe('new')
})

test('a name that is new takes any approved disk, one that was used only its own', () => {
  const both = [...approved, { name: 'data', sizeBytes: 5000, serial: 'D5' }]
  expect(standingOf('boot', disk, both)).toBe('approved')
  expect(isApproved('boot', disk, both)).toBe(false)
  // The hints were exchanged by mistake: the data would be lost.
  expect(standingOf('data', disk, both)).toBe('new')
  expect(standingOf('data', disk, [...both, { name: 'data', sizeBytes: 1000, serial: 'A1' }])).toBe('approved')
})

test('the refusal names both disks', () => {
  expect(() => checkIdentity('system', { ...disk, serial: 'B2', wwn: undefined }, approved)).toThrow(
    "disk `system` would be /dev/sda (1000 bytes, FAST 1, serial B2), and this host's proven one is 1000 bytes, serial A1, wwn 0x5000",
  )
})
