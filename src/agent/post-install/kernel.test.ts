import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findKernel } from './kernel.ts'
import { TargetRoot } from './target-root.ts'
import { put } from './test-system.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'hades-kernel-test-'))
})
afterEach(() => rm(root, { recursive: true }))

const find = () => findKernel(new TargetRoot(root))

// What update-grub of Debian 12 writes, shortened.
const debian = `
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "\${next_entry}" ] ; then
   set default="\${next_entry}"
   set next_entry=
   set boot_once=true
else
   set default="0"
fi
menuentry 'Debian GNU/Linux' --class debian --class os $menuentry_id_option 'gnulinux-simple-1' {
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	set root='hd0,gpt3'
	echo	'Loading Linux 6.1.0-40 ...'
	linux	/boot/vmlinuz-6.1.0-40 root=UUID=1-2 ro  quiet "console=ttyS0 x" $extra
	initrd	/boot/initrd.img-6.1.0-40
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian, with Linux 6.1.0-39' --class debian $menuentry_id_option 'gnulinux-6.1.0-39-advanced-1' {
		linux	/boot/vmlinuz-6.1.0-39 root=UUID=1-2 ro
		initrd	/boot/initrd.img-6.1.0-39
	}
}
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
	fwsetup
}
`
const kernels = {
  'boot/vmlinuz-6.1.0-40': '',
  'boot/initrd.img-6.1.0-40': '',
  'boot/vmlinuz-6.1.0-39': '',
  'boot/initrd.img-6.1.0-39': '',
}

test('the default entry of Debian’s GRUB is the one', async () => {
  await put(root, { ...kernels, 'boot/grub/grub.cfg': debian })
  expect(await find()).toEqual({
    image: '/boot/vmlinuz-6.1.0-40',
    initrds: ['/boot/initrd.img-6.1.0-40'],
    commandLine: 'root=UUID=1-2 ro quiet console=ttyS0 x',
    source: '/boot/grub/grub.cfg',
  })
})

test('a saved entry counts, by the name that a submenu gives it', async () => {
  const config = debian.replace('set default="0"', `set default="\${saved_entry}"`)
  const grubenv = '# GRUB Environment Block\nsaved_entry=gnulinux-advanced-1>gnulinux-6.1.0-39-advanced-1\n####'
  await put(root, { ...kernels, 'boot/grub/grub.cfg': config, 'boot/grub/grubenv': grubenv })
  expect(await find()).toMatchObject({ image: '/boot/vmlinuz-6.1.0-39' })
})

test('paths of a separate /boot and of a btrfs subvolume are found', async () => {
  const config = 'menuentry x {\n linux /vmlinuz root=/dev/x\n initrd /a.img /b.img\n}\n'
  await put(root, { 'boot/vmlinuz': '', 'boot/a.img': '', 'boot/b.img': '', 'boot/grub2/grub.cfg': config })
  expect(await find()).toMatchObject({ image: '/boot/vmlinuz', initrds: ['/boot/a.img', '/boot/b.img'] })
  await put(root, { 'boot/grub2/grub.cfg': 'menuentry x {\n linux /@/boot/vmlinuz root=/dev/x\n}\n' })
  expect(await find()).toMatchObject({ image: '/boot/vmlinuz', initrds: [] })
})

test('of the entries of the Boot Loader Specification the newest counts, with GRUB’s variables in it', async () => {
  const entry = (version: string) =>
    `title Fedora\nversion ${version}\nlinux /vmlinuz-${version}\ninitrd /initramfs-${version}.img $tuned_initrd\noptions $kernelopts ro\n`
  await put(root, {
    'boot/grub2/grub.cfg': `set default="\${saved_entry}"\nblscfg\nmenuentry "UEFI" {\n fwsetup\n}\n`,
    'boot/grub2/grubenv': 'kernelopts=root=UUID=9\n',
    'boot/loader/entries/0a-6.9.1.conf': entry('6.9.1'),
    'boot/loader/entries/0a-6.10.2.conf': entry('6.10.2'),
    'boot/vmlinuz-6.9.1': '',
    'boot/vmlinuz-6.10.2': '',
    'boot/initramfs-6.9.1.img': '',
    'boot/initramfs-6.10.2.img': '',
  })
  expect(await find()).toMatchObject({
    image: '/boot/vmlinuz-6.10.2',
    initrds: ['/boot/initramfs-6.10.2.img'],
    commandLine: 'root=UUID=9 ro',
  })
  await put(root, { 'boot/grub2/grubenv': 'saved_entry=0a-6.9.1\n' })
  expect(await find()).toMatchObject({ image: '/boot/vmlinuz-6.9.1', commandLine: 'ro' })
})

test('what is missing is said', async () => {
  expect(await find()).toContain('there is no boot menu')
  await put(root, { 'boot/grub/grub.cfg': debian })
  expect(await find()).toContain('names the kernel /boot/vmlinuz-6.1.0-40, which is not there')
})
