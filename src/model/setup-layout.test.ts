import { expect, test } from 'vitest'
import { Failure } from './failure.ts'
import { imagesOf, placesOf } from './layout.ts'
import { parseSetup } from './setup.ts'

const document = (inside: string): string =>
  `<?xml version="1.0"?>\n<setup xmlns="urn:hades:setup:1" name="demo">\n${inside}\n</setup>`

const table = (partitions: string, type = 'gpt'): string =>
  document(`<disk><table type="${type}">\n${partitions}\n</table></disk>`)

const root = '<partition size="2GiB"><image>a:1</image></partition>'

test('partitions are counted on, sizes are bytes, percentages or what is left', () => {
  const { layout } = parseSetup(
    table(`<partition size="100MiB" type="esp" label="EFI"><filesystem type="vfat" mount="/boot/efi"/></partition>
<partition number="5" size="25%" uuid="2F0C1C4E-6b7e-4f7a-9a51-0d2f5a1b3c4d"><image>a:1</image></partition>
<partition><swap label="swap"/></partition>`),
  )
  expect(layout.disks[0]?.partitions).toEqual([
    {
      number: 1,
      sizeBytes: 100 * 2 ** 20,
      type: 'esp',
      label: 'EFI',
      content: { kind: 'filesystem', filesystem: 'vfat', mount: '/boot/efi' },
    },
    {
      number: 5,
      sizePercent: 25,
      type: 'linux',
      uuid: '2f0c1c4e-6b7e-4f7a-9a51-0d2f5a1b3c4d',
      content: { kind: 'image', image: 'a:1' },
    },
    { number: 6, type: 'linux', content: { kind: 'swap', label: 'swap' } },
  ])
})

test('arrays and volume groups are places too, and every image is named once', () => {
  const { layout } = parseSetup(
    document(`<disk name="a"><hint property="path" value="/dev/sda"/><member of="md0"/></disk>
<disk name="b"><hint property="path" value="/dev/sdb"/><member of="md0"/></disk>
<raid name="md0" level="1"><member of="vg0"/></raid>
<volume-group name="vg0">
<volume name="root" size="10GiB"><filesystem type="xfs" mount="/"><image>root:1</image></filesystem></volume>
<volume name="spare" size="10GiB"><filesystem type="xfs"><image>root:1</image></filesystem></volume>
<volume name="data" size="grow"><filesystem type="ext4" mount="/data"/></volume>
</volume-group>`),
  )
  expect(placesOf(layout).map(({ place }) => place)).toEqual(['a', 'b', 'md0', 'vg0/root', 'vg0/spare', 'vg0/data'])
  expect(imagesOf(layout)).toEqual([{ name: 'root', version: '1' }])
})

test('what is to be done after the images is read with its defaults', () => {
  const { postInstall } = parseSetup(
    document(`<disk><image>a:1</image></disk>
<post-install>
<hostname/>
<network mode="static" prefix="24" gateway="10.0.0.1" dns="10.0.0.2 10.0.0.3"/>
<ssh><authorized-key>ssh-ed25519 AAAA me@home</authorized-key></ssh>
<machine-id/>
<grow/>
<script name="hello" timeout="30s">echo hello</script>
</post-install>`),
  )
  expect(postInstall).toEqual({
    hostname: '{{host}}',
    network: { mode: 'static', prefixLength: 24, gateway: '10.0.0.1', dns: ['10.0.0.2', '10.0.0.3'] },
    newHostKeys: true,
    newMachineId: true,
    authorizedKeys: [{ user: 'root', key: 'ssh-ed25519 AAAA me@home' }],
    writeFstab: false,
    growLast: true,
    installBootLoader: false,
    scripts: [{ name: 'hello', where: 'chroot', timeoutMs: 30_000, text: 'echo hello' }],
  })
})

test.each([
  ['two disks of one name', document('<disk><image>a:1</image></disk>\n<disk><keep/></disk>'), 4, /`system` is there/],
  ['a partition twice', table(`${root}\n<partition number="1" size="1GiB"/>`), 5, /`system:1` is there twice/],
  ['two images in one place', table('<partition><image>a:1</image><image>b:1</image></partition>'), 4, /image/],
  ['an unknown file system', table(`${root}<partition size="1GiB"><filesystem type="zfs"/></partition>`), 4, /zfs/],
  ['a kept partition in a new table', table(`${root}\n<partition><keep/></partition>`), 5, /cannot be kept/],
  ['partitions that overlap', table(`${root}\n<partition start="1GiB" size="1GiB"/>`), 5, /inside the one before/],
  ['two that grow', table(`<partition><image>a:1</image></partition>\n<partition/>`), 5, /second that grows/],
  ['percentages beyond all', table(`${root}\n<partition size="60%"/><partition size="50%"/>`), 5, /110 %/],
  ['five in an MBR', table(root + '<partition size="1MiB"/>'.repeat(4), 'mbr'), 4, /number above 4|at most 4/],
  ['a GUID in an MBR', table(`<partition label="x"><image>a:1</image></partition>`, 'mbr'), 4, /MBR does not know/],
  ['a member of nothing', table(`${root}\n<partition><member of="md9"/></partition>`), 5, /no array or group/],
  [
    'an array of one',
    document(
      '<disk><table type="gpt"><partition><member of="md0"/></partition></table></disk>\n<raid name="md0" level="1"><image>a:1</image></raid>',
    ),
    4,
    /has 1 members/,
  ],
  ['a long label', table(`${root}\n<partition><filesystem type="vfat" label="twelve-chars"/></partition>`), 5, /11/],
  [
    'a wrong uuid',
    table(`${root}\n<partition><filesystem type="vfat" uuid="0123456789abcdef"/></partition>`),
    5,
    /ABCD/,
  ],
  [
    'a root in vfat',
    table('<partition><filesystem type="vfat"><image>a:1</image></filesystem></partition>'),
    4,
    /owners/,
  ],
  ['no image at all', table('<partition><swap/></partition>'), 3, /gets an image/],
  ['a size that is none', table('<partition size="2Gib"><image>a:1</image></partition>'), 4, /2Gib/],
])('%s is refused with the line and the reason', (_, xml, line, words) => {
  let failure: unknown
  try {
    parseSetup(xml)
  } catch (error) {
    failure = error
  }
  expect(failure).toBeInstanceOf(Failure)
  expect(failure).toMatchObject({ code: 'setup-invalid', at: `line ${line}` })
  expect((failure as Failure).message).toMatch(words)
})
