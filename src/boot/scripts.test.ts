import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type BootScript, renderScript, scriptLoaders, scriptOfPath, scriptPathFor } from './scripts.ts'

const common = { host: { name: 'n01', mac: '52:54:00:77:00:0a' }, bootUrl: 'http://10.77.0.1:7780/boot' } as const
const scout = {
  ...common,
  target: 'scout',
  kernelPath: 'scout/vmlinuz',
  initrdPath: 'scout/stage1.img',
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

test('GRUB fetches kernel and stage 1 over TFTP and ends, for its loop to ask again, when that fails', () => {
  expect(renderScript('grub', scout)).toBe(`echo 'hades: n01 boots the scout'
if linux (tftp,$server)/scout/vmlinuz console=ttyS0,115200n8 hades.host=n01 hades.token=aB-_9=; then
  if initrd (tftp,$server)/scout/stage1.img; then boot; fi
fi
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

test('a machine on hold says so and asks for its script again', () => {
  const hold = { ...common, target: 'hold' } as const
  expect(renderScript('pxelinux', hold)).toMatch(/DEFAULT again\n(.*\n)*LABEL again\n {2}PXE lpxelinux\.0/)
  expect(renderScript('ipxe', hold)).toMatch(/sleep 10\nchain --replace .*\/boot\/ipxe\/52-54-00-77-00-0a/)
  expect(renderScript('grub', hold)).toBe("echo 'hades: n01 is on hold'\n")
})

test('the path of a script leads back to its loader and MAC address', () => {
  for (const loader of scriptLoaders) {
    expect(scriptOfPath(scriptPathFor(loader, common.host.mac))).toEqual({ loader, mac: common.host.mac })
  }
})

test.each([
  'pxelinux.cfg/default',
  'pxelinux.cfg/0A4D000B',
  'pxelinux.cfg/01-52-54-00-77-00-0A',
  'grub/x86_64-efi/command.lst',
  'grub/52:54:00:77:00:0a',
  'ipxe/52-54-00-77-00',
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
  ['an absolute path', { ...scout, initrdPath: '/scout/stage1.img' }, 'initrdPath'],
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
