import { expect, test } from 'vitest'
import { readLook } from './look.ts'

test('what a new system says of its devices, mounts and arrays is read', () => {
  const seen = readLook(`device /dev/vda 254:0 4294967296
PTTYPE=gpt
device /dev/vda1 254:1 272629760
DEVNAME=/dev/vda1
LABEL=ESP
UUID=8C00-0FD6
TYPE=vfat
PART_ENTRY_NAME=EFI\\ system\\ partition
PART_ENTRY_TYPE=c12a7328-f81f-11d2-ba4b-00a0c93ec93b
device /dev/md127 9:127 1000
mount 254:1 /boot/efi rw,relatime
swap /dev/vda3
firmware uefi
hostname n01
ownName
rootBytes  20957446144
fstab UUID=8C00-0FD6 /boot/efi
fstab UUID=abc none
array raid1  [UU]
`)
  expect(seen.devices['/dev/vda1']).toEqual({
    size: 272_629_760,
    type: 'vfat',
    label: 'ESP',
    uuid: '8C00-0FD6',
    name: 'EFI system partition',
    kind: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
    at: '/boot/efi',
    options: 'rw,relatime',
  })
  expect(seen.devices['/dev/md127']).toMatchObject({ size: 1000, type: '', at: '' })
  expect(seen).toMatchObject({ firmware: 'uefi', hostname: 'n01', ownName: '', rootBytes: 20_957_446_144 })
  expect(seen.swaps).toEqual(['/dev/vda3'])
  expect(seen.fstab).toEqual(['UUID=8C00-0FD6 /boot/efi', 'UUID=abc none'])
  expect(seen.arrays).toEqual(['raid1 [UU]'])
})

test('a line that is none of the script is an error', () => {
  expect(() => readLook('== firmware')).toThrow('the new system said `== firmware`')
})
