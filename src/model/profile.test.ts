import fc from 'fast-check'
import { expect, test } from 'vitest'
import { argumentPattern, bootPathOf, checkProfile, fillArguments, type NetbootProfile } from './profile.ts'

const installer: NetbootProfile = {
  name: 'debian',
  kernel: 'linux',
  initrds: ['initrd.gz'],
  arguments: 'auto=true url={{filesUrl}}/preseed.cfg hostname={{ host }} --- quiet',
}
const values = {
  host: 'n01',
  mac: '52:54:00:77:00:0a',
  macDashes: '52-54-00-77-00-0a',
  ip: undefined,
  service: 'http://10.77.0.1:7780',
  bootUrl: 'http://10.77.0.1:7780/boot',
  filesUrl: 'http://10.77.0.1:7780/boot/netboot/debian',
  scoutArguments: 'quiet',
}

test('a template is filled for a host', () => {
  checkProfile(installer)
  expect(fillArguments(installer, values)).toEqual([
    'auto=true',
    'url=http://10.77.0.1:7780/boot/netboot/debian/preseed.cfg',
    'hostname=n01',
    '---',
    'quiet',
  ])
})

test('files are below the folder of the profile, or the scout’s', () => {
  expect(bootPathOf('debian', 'amd64/linux')).toBe('netboot/debian/amd64/linux')
  expect(bootPathOf('rescue', '/scout/vmlinuz')).toBe('scout/vmlinuz')
  checkProfile({ ...installer, kernel: '/scout/vmlinuz' })
})

test.each<[string, Partial<NetbootProfile>, string]>([
  ['nothing to boot', { kernel: undefined, initrds: [], arguments: '' }, 'kernel'],
  ['an initrd without a kernel', { kernel: undefined, uefiProgram: 'a.efi' }, 'initrds'],
  ['arguments without a kernel', { kernel: undefined, initrds: [], uefiProgram: 'a.efi' }, 'arguments'],
  ['a path that leaves the folder', { kernel: '../x' }, 'kernel'],
  ['a path that leaves it in the middle', { kernel: 'a/../../x' }, 'kernel'],
  ['an absolute path', { kernel: '/etc/passwd' }, 'kernel'],
  ['a path through the scout', { kernel: '/scout/../x' }, 'kernel'],
  ['a path with a blank', { initrds: ['a b'] }, 'initrds[0]'],
  ['a path with a line break', { initrds: ['a\nb'] }, 'initrds[0]'],
  ['two initrds of one name', { initrds: ['a/x', 'b/x'] }, 'initrds'],
  ['memtest86+ as PXE program', { biosProgram: 'memtest86+x64.bin' }, 'biosProgram'],
  ['a PXE program for UEFI', { uefiProgram: 'pxelinux.0' }, 'uefiProgram'],
  ['a word that is not known', { arguments: 'x={{token}}' }, 'arguments'],
  ['a quote', { arguments: 'x="y"' }, 'arguments'],
  ['a variable', { arguments: 'x=$y' }, 'arguments'],
  ['a second command', { arguments: 'x;reboot' }, 'arguments'],
  ['a line break', { arguments: 'x\nreboot' }, 'arguments'],
  ['too many arguments', { arguments: 'x'.repeat(1801) }, 'arguments'],
  ['arguments too long for the longest host name', { arguments: `{{host}}${'x'.repeat(1750)}` }, 'arguments'],
])('a profile is refused for %s', (_, change, at) => {
  expect(() => checkProfile({ ...installer, ...change })).toThrow(expect.objectContaining({ code: 'bad-input', at }))
})

test('a host without address is told so where the arguments need one', () => {
  expect(() => fillArguments({ ...installer, arguments: 'ip={{ip}}' }, values)).toThrow('no value for {{ip}}')
})

test('whatever a template holds, no argument has a character with a meaning', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
      let words: string[] = []
      try {
        words = fillArguments({ ...installer, arguments: text }, values)
      } catch {
        return
      }
      for (const word of words) expect(word).toMatch(argumentPattern)
    }),
  )
})
