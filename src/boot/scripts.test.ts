import fc from 'fast-check'
import { expect, test } from 'vitest'
import { renderScript } from './render-script.ts'
import { type BootScript, failedPathFor, scriptLoaders, scriptOfPath, scriptPathFor } from './scripts.ts'

const common = { host: { name: 'n01', mac: '52:54:00:77:00:0a' }, bootUrl: 'http://10.77.0.1:7780/boot' } as const
const scout = {
  ...common,
  target: 'scout',
  kernelPath: 'scout/vmlinuz',
  initrdPaths: ['scout/stage1.img'],
  args: ['console=ttyS0,115200n8', 'hades.host=n01', 'hades.token=aB-_9='],
} as const satisfies BootScript

test('pxelinux fetches kernel and stage 1 of the scout over HTTP, and begins anew when that fails', () => {
  expect(renderScript('pxelinux', scout)).toBe(`SAY hades: n01 boots the scout
DEFAULT scout
PROMPT 0
TIMEOUT 100
TOTALTIMEOUT 100
ONTIMEOUT again
LABEL again
  PXE lpxelinux.0
LABEL scout
  LINUX http://10.77.0.1:7780/boot/scout/vmlinuz
  INITRD http://10.77.0.1:7780/boot/scout/stage1.img
  APPEND console=ttyS0,115200n8 hades.host=n01 hades.token=aB-_9=
`)
})

test('iPXE names the initrd, which a kernel under UEFI asks for, and asks for its script again when anything fails', () => {
  expect(renderScript('ipxe', scout)).toBe(`#!ipxe
echo hades: n01 boots the scout
kernel http://10.77.0.1:7780/boot/scout/vmlinuz initrd=stage1.img console=ttyS0,115200n8 hades.host=n01 hades.token=aB-_9= || goto again
initrd http://10.77.0.1:7780/boot/scout/stage1.img || goto again
boot || goto again
:again
echo hades: asking again in 10 s
imgfree
sleep 10
chain --replace --autofree http://10.77.0.1:7780/boot/ipxe/52-54-00-77-00-0a || goto again
`)
})

test('GRUB fetches kernel and stage 1 over TFTP, and when that fails tells so and ends, for its loop to ask again', () => {
  expect(renderScript('grub', scout)).toBe(`echo 'hades: n01 boots the scout'
if linux (tftp,$server)/scout/vmlinuz console=ttyS0,115200n8 hades.host=n01 hades.token=aB-_9=; then
  if initrd (tftp,$server)/scout/stage1.img; then boot; fi
fi
source (tftp,$server)/grub/52-54-00-77-00-0a/failed
`)
})

test('a BIOS machine boots its disk by the answers that cost it least', () => {
  expect(renderScript('pxelinux', { ...common, target: 'local' })).toContain('LOCALBOOT -1\n')
  expect(renderScript('ipxe', { ...common, target: 'local' })).toContain(
    'sanboot --no-describe --drive 0x80 ||\nexit\n',
  )
})

test('a UEFI machine boots its disk through GRUB, which sets its root to where it found the loader', () => {
  expect(renderScript('ipxe', { ...common, target: 'local' })).toContain(
    ':efi\nchain --autofree http://10.77.0.1:7780/boot/grubx64.efi || goto again\n',
  )
  const script = renderScript('grub', { ...common, target: 'local' })
  expect(script).toMatch(/for file in \/EFI\/BOOT\/BOOTX64\.EFI .*\/EFI\/debian\/grubx64\.efi .*\/bootmgfw\.efi; do/)
  expect(script).toMatch(/set root=\$esp\n +if chainloader \(\$esp\)\$file; then boot; fi/)
})

test('a partition is for GRUB to boot: iPXE starts the one of its firmware, pxelinux gets there by iPXE', () => {
  const second = { ...common, target: 'partition', partition: 2 } as const
  const ipxe = renderScript('ipxe', second)
  expect(ipxe).toContain('chain --autofree http://10.77.0.1:7780/boot/grubpc.0 || goto again\n:efi\n')
  expect(ipxe).toContain(':efi\nchain --autofree http://10.77.0.1:7780/boot/grubx64.efi || goto again\n')
  expect(renderScript('pxelinux', second)).toContain(
    'LINUX http://10.77.0.1:7780/boot/ipxe.lkrn\n  APPEND dhcp && chain http://10.77.0.1:7780/boot/ipxe/52-54-00-77-00-0a\n',
  )
})

test('GRUB finds a partition by its file system where that is known, else by its number on each disk in order', () => {
  const second = { ...common, target: 'partition', partition: 2 } as const
  const fsUuid = '9696529d-c6e2-4531-a7a0-5b99fac684dd'
  expect(renderScript('grub', { ...second, fsUuid })).toContain(`search --no-floppy --fs-uuid --set=found ${fsUuid}\n`)
  const numbered = renderScript('grub', second)
  expect(numbered).not.toContain('--fs-uuid')
  expect(numbered).toContain('for place in hd0,gpt2 hd0,msdos2 hd1,gpt2 hd1,msdos2 ')
  expect(numbered).toMatch(/no partition 2 of n01 has a system to boot'\nsource .*\/failed\n$/)
})

const rescue = {
  ...common,
  target: 'netboot',
  profile: 'rescue',
  kernel: { kernelPath: 'netboot/rescue/linux', initrdPaths: ['netboot/rescue/a', 'netboot/rescue/b'], args: ['x=1'] },
} as const satisfies BootScript

test('a profile with two initrds gives each loader both', () => {
  expect(renderScript('pxelinux', rescue)).toContain(
    '  INITRD http://10.77.0.1:7780/boot/netboot/rescue/a,http://10.77.0.1:7780/boot/netboot/rescue/b\n  APPEND x=1\n',
  )
  const ipxe = renderScript('ipxe', rescue)
  expect(ipxe).toContain('/boot/netboot/rescue/linux initrd=a initrd=b x=1 || goto again\ninitrd http')
  expect(renderScript('grub', rescue)).toContain(
    'if initrd (tftp,$server)/netboot/rescue/a (tftp,$server)/netboot/rescue/b; then boot; fi',
  )
})

test('a program is started by the firmware that it is for, and the kernel by the other', () => {
  const program = { ...rescue, uefiProgramPath: 'netboot/rescue/memtest.efi' } as const
  expect(renderScript('grub', program)).toMatch(
    /"\$grub_platform" = efi \]; then\n +set root=tftp,\$server\n +if chainloader .*memtest\.efi; then boot/,
  )
  expect(renderScript('ipxe', program)).toMatch(
    /efi && goto efi \|\|\nkernel .*\n(.*\n)*:efi\nchain --autofree .*memtest\.efi/,
  )
  expect(renderScript('pxelinux', program)).toContain('LINUX http')
  const only = { ...common, target: 'netboot', profile: 'x', biosProgramPath: 'netboot/x/pxelinux.0' } as const
  expect(renderScript('pxelinux', only)).toContain('  PXE netboot/x/pxelinux.0\n')
  expect(renderScript('ipxe', only)).toContain(':efi\necho hades: profile x has nothing for UEFI machines\n:again')
  const other = { ...common, target: 'netboot', profile: 'x', uefiProgramPath: 'netboot/x/a.efi' } as const
  expect(renderScript('pxelinux', other)).toMatch(
    /^SAY hades: n01 is on hold: profile x has nothing for BIOS machines\n/,
  )
})

test('a machine on hold says so and asks for its script again', () => {
  const hold = { ...common, target: 'hold' } as const
  expect(renderScript('pxelinux', hold)).toMatch(/DEFAULT again\n(.*\n)*LABEL again\n {2}PXE lpxelinux\.0/)
  expect(renderScript('ipxe', hold)).toMatch(/sleep 10\nchain --replace .*\/boot\/ipxe\/52-54-00-77-00-0a/)
  expect(renderScript('grub', hold)).toBe("echo 'hades: n01 is on hold'\n")
})

test('the path of a script leads back to its loader and MAC address', () => {
  for (const loader of scriptLoaders) {
    const { mac } = common.host
    expect(scriptOfPath(scriptPathFor(loader, mac))).toEqual({ loader, mac, hasFailed: false })
    expect(scriptOfPath(failedPathFor(loader, mac))).toEqual({ loader, mac, hasFailed: true })
  }
})

test.each([
  'pxelinux.cfg/default',
  'pxelinux.cfg/0A4D000B',
  'pxelinux.cfg/01-52-54-00-77-00-0A',
  'grub/x86_64-efi/command.lst',
  'grub/52:54:00:77:00:0a',
  'ipxe/52-54-00-77-00',
  'ipxe/52-54-00-77-00-0a/failed/failed',
  'ipxe/52-54-00-77-00-0a/x',
  'scout/vmlinuz',
  '',
])('%j is the path of no script', (path) => {
  expect(scriptOfPath(path)).toBeUndefined()
})

test.each([
  ['a host name with a line break', { ...scout, host: { ...scout.host, name: 'n01\nsanboot' } }, 'host.name'],
  ['a host name with a quote', { ...scout, host: { ...scout.host, name: "n01'" } }, 'host.name'],
  ['a MAC address in capitals', { ...scout, host: { ...scout.host, mac: '52:54:00:77:00:0A' } }, 'host.mac'],
  ['a URL with a variable', { ...scout, bootUrl: 'http://$next-server/boot' }, 'bootUrl'],
  ['a URL with a slash at its end', { ...scout, bootUrl: 'http://10.77.0.1/boot/' }, 'bootUrl'],
  ['a path with a space', { ...scout, kernelPath: 'scout/vm linuz' }, 'kernelPath'],
  ['an absolute path', { ...scout, initrdPaths: ['/scout/stage1.img'] }, 'initrdPaths'],
  ['a partition that is no number', { ...common, target: 'partition', partition: Number.NaN }, 'partition'],
  ['a UUID with a command', { ...common, target: 'partition', partition: 1, fsUuid: 'a;reboot' }, 'fsUuid'],
  ['a reason with a quote', { ...common, target: 'hold', why: "it's" }, 'why'],
  ['an initrd with a variable', { ...rescue, kernel: { ...rescue.kernel, initrdPaths: ['$x'] } }, 'initrdPaths'],
  ['a program with a line break', { ...rescue, biosProgramPath: 'a\nb' }, 'biosProgramPath'],
  ['an empty argument', { ...scout, args: [''] }, 'args'],
  ['more arguments than the kernel takes', { ...scout, args: ['a'.repeat(1801)] }, 'args'],
] as const)('a script is refused for %s', (_, script, at) => {
  for (const loader of scriptLoaders) {
    expect(() => renderScript(loader, script)).toThrow(expect.objectContaining({ code: 'bad-input', at }))
  }
})

test('no argument can add a line, a command, a quote or a variable to a script', () => {
  const calm = /^[A-Za-z0-9 ._:/=,@+-]+$/
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), fc.constantFrom(...scriptLoaders), (arg, loader) => {
      const render = () => renderScript(loader, { ...scout, args: [arg] })
      if (calm.test(arg)) expect(render().split('\n')).toHaveLength(renderScript(loader, scout).split('\n').length)
      else expect(render).toThrow('boot script may contain')
    }),
  )
})

test('a refused argument is named without its value, which may be a token', () => {
  expect(() => renderScript('grub', { ...scout, args: ['hades.token=secret;'] })).toThrow(
    /^args "hades\.token" has a character that no boot script may contain$/,
  )
})
