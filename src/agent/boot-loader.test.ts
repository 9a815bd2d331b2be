import { expect, test } from 'vitest'
import { parseSetup } from '../model/setup.ts'
import { argumentsIn, disksUnder, kernelsIn, menuOf, problemOfBootLoader, rootPlaceOf } from './boot-loader.ts'

const layoutOf = (inside: string) => parseSetup(`<setup xmlns="urn:hades:setup:1" name="x">${inside}</setup>`).layout

const tree = '<filesystem type="ext4" mount="/"><image>a:1</image></filesystem>'
const esp = '<partition size="64MiB" type="esp"><filesystem type="vfat" mount="/boot/efi"/></partition>'
const bios = '<partition size="1MiB" type="bios-boot"/>'
const gpt = (parts: string) =>
  layoutOf(`<disk><table type="gpt">${parts}<partition number="9">${tree}</partition></table></disk>`)

test.each([
  ['bios', gpt(bios), undefined],
  ['bios', gpt(esp), /needs a bios-boot partition/],
  ['uefi', gpt(esp), undefined],
  ['uefi', gpt(bios), /needs an EFI system partition/],
  ['bios', layoutOf(`<disk><table type="mbr"><partition>${tree}</partition></table></disk>`), undefined],
  [
    'bios',
    layoutOf(
      '<disk><table type="gpt"><partition size="1GiB"><image>a:1</image></partition><partition><image>b:1</image></partition></table></disk>',
    ),
    /where the root is/,
  ],
] as const)('a boot loader for %s (case %#)', (firmware, layout, words) => {
  const problem = problemOfBootLoader(layout, undefined, firmware)
  if (words === undefined) expect(problem).toBeUndefined()
  else expect(problem).toMatch(words)
})

const mirrored =
  layoutOf(`<disk name="a"><table type="gpt"><partition size="1GiB" type="raid"><member of="md0"/></partition></table></disk>
<disk name="b"><table type="gpt"><partition type="raid"><member of="md0"/></partition></table></disk>
<disk name="c"><table type="gpt"><partition><swap/></partition></table></disk>
<raid name="md0" level="1"><member of="vg0"/></raid>
<volume-group name="vg0"><volume name="root" size="1GiB">${tree}</volume></volume-group>`)

test('a volume on an array lies on every disk of the array', () => {
  expect(rootPlaceOf(mirrored, undefined)).toBe('vg0/root')
  expect(disksUnder(mirrored, 'vg0/root')).toEqual(['a', 'b'])
  expect(disksUnder(mirrored, 'c:1')).toEqual(['c'])
})

test('the only partition that gets an image is the root when nothing is mounted there', () => {
  const layout = layoutOf(
    '<disk><table type="gpt"><partition size="1GiB"><image>a:1</image></partition></table></disk>',
  )
  expect(rootPlaceOf(layout, undefined)).toBe('system:1')
})

test('kernels are found with their initial RAM disks as distributions name them, the newest first', () => {
  const names = [
    'vmlinuz-6.1.0-9-amd64',
    'initrd.img-6.1.0-9-amd64',
    'vmlinuz-6.1.0-21-amd64',
    'config-6.1',
    'grub',
    'vmlinuz-5.14.0-1.el9',
    'initramfs-5.14.0-1.el9.img',
  ]
  const kernels = kernelsIn(names)
  expect(kernels.map(({ version, initrd }) => [version, initrd])).toEqual([
    ['6.1.0-21-amd64', undefined],
    ['6.1.0-9-amd64', 'initrd.img-6.1.0-9-amd64'],
    ['5.14.0-1.el9', 'initramfs-5.14.0-1.el9.img'],
  ])
  const menu = menuOf(kernels.slice(1, 2), { prefix: '/boot', rootUuid: 'aa-bb', options: 'ro quiet' })
  expect(menu).toBe(`set timeout=2
menuentry 'Linux 6.1.0-9-amd64' {
  linux /boot/vmlinuz-6.1.0-9-amd64 root=UUID=aa-bb ro quiet
  initrd /boot/initrd.img-6.1.0-9-amd64
}
`)
})

test('the kernel arguments are those of the system itself', () => {
  const settings =
    'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=\'console=ttyS0,115200  a=b\'\n'
  expect(argumentsIn(settings)).toBe('console=ttyS0,115200 a=b quiet')
  expect(argumentsIn('')).toBe('')
})
