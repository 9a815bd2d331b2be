// GRUB scripts, sourced by the loop in scout/loaders/grub.cfg, which sets `server`: when one ends without having booted
// anything, the loop waits 10 s and asks for it again. GRUB runs under UEFI, and under BIOS for `local:<partition>`; which
// of them it is, it says in `grub_platform`.
import { type BootScript, failedPathFor, type KernelBoot, type ScriptTo } from './scripts.ts'

export function grubScript(script: BootScript): string[] {
  const { host } = script
  const says = (text: string) => `echo 'hades: ${host.name} ${text}'`
  // A line of the machine's timeline, since a console is seldom looked at.
  const tells = `source (tftp,$server)/${failedPathFor('grub', host.mac)}`
  switch (script.target) {
    case 'scout':
      return [says('boots the scout'), ...kernel(script), tells]
    case 'netboot':
      return [says(`boots ${script.profile} from the network`), ...netboot(script), tells]
    case 'local':
      return [
        says('boots its disk'),
        ...onFirmware(efiDisk, [
          'for disk in hd0 hd1 hd2 hd3; do',
          '  set root=$disk',
          '  if chainloader ($disk)+1; then boot; fi',
          'done',
        ]),
        `echo 'hades: no disk of ${host.name} has a system to boot'`,
        tells,
      ]
    case 'partition':
      return [says(`boots partition ${script.partition}`), ...partition(script), tells]
    case 'hold':
      return [says(`is on hold${script.why === undefined ? '' : `: ${script.why}`}`)]
  }
}

function onFirmware(efi: readonly string[], bios: readonly string[]): string[] {
  const within = (lines: readonly string[]) => lines.map((line) => `  ${line}`)
  return ['if [ "$grub_platform" = efi ]; then', ...within(efi), 'else', ...within(bios), 'fi']
}

/** Over TFTP, not HTTP: GRUB 2.06 asks for (http,host:port)/ and then times out, and Debian's signed image has no HTTP. */
function kernel({ kernelPath, initrdPaths, args }: KernelBoot): string[] {
  const linux = `if linux ${[`(tftp,$server)/${kernelPath}`, ...args].join(' ')}; then`
  if (initrdPaths.length === 0) return [linux, '  boot', 'fi']
  const initrds = initrdPaths.map((path) => `(tftp,$server)/${path}`).join(' ')
  return [linux, `  if initrd ${initrds}; then boot; fi`, 'fi']
}

function netboot(script: ScriptTo<'netboot'>): string[] {
  const { biosProgramPath, uefiProgramPath, profile } = script
  const lacks = (firmware: string) =>
    script.kernel ? kernel(script.kernel) : [`echo 'hades: profile ${profile} has nothing for ${firmware} machines'`]
  if (biosProgramPath === undefined && uefiProgramPath === undefined) return lacks('these')
  return onFirmware(
    // `root` is the device that the program is told it came from; chainloader takes no other.
    uefiProgramPath === undefined
      ? lacks('UEFI')
      : ['set root=tftp,$server', `if chainloader (tftp,$server)/${uefiProgramPath}; then boot; fi`],
    // GRUB under BIOS can start no PXE program. It is there only because the target was another a moment ago: pxelinux or
    // iPXE, which can, come first when the machine starts again.
    biosProgramPath === undefined ? lacks('BIOS') : ['reboot'],
  )
}

/**
 * Where systems keep their loader on the EFI system partition, in the order tried: the path that the firmware itself falls
 * back to, then those that installers use when they leave that one empty.
 */
const efiLoaders = [
  '/EFI/BOOT/BOOTX64.EFI',
  '/EFI/BOOT/grubx64.efi',
  ...['debian', 'ubuntu', 'fedora', 'centos', 'rocky', 'almalinux', 'redhat', 'opensuse', 'sles'].flatMap((vendor) => [
    `/EFI/${vendor}/shimx64.efi`,
    `/EFI/${vendor}/grubx64.efi`,
  ]),
  '/EFI/systemd/systemd-bootx64.efi',
  '/EFI/Microsoft/Boot/bootmgfw.efi',
]

const efiDisk = [
  `for file in ${efiLoaders.join(' ')}; do`,
  '  if search --no-floppy --set=esp --file $file; then',
  // A loader looks for its own files on the device in `root`; without it the chain ends in an error.
  '    set root=$esp',
  '    if chainloader ($esp)$file; then boot; fi',
  '  fi',
  'done',
]

/** Where systems keep their menu: with `/boot` on the root file system, or with a partition of its own for it. */
const menus = ['/boot/grub', '/grub', '/boot/grub2', '/grub2'].map((folder) => `${folder}/grub.cfg`)
const extlinuxMenus = ['/boot/extlinux', '/extlinux', '/boot/syslinux', '/syslinux'].flatMap((folder) => [
  `${folder}/extlinux.conf`,
  `${folder}/syslinux.cfg`,
])

/** Disks that are looked at for a partition of this number, in the firmware's order. */
const disksMax = 16

/** Boots what is on one partition: its menu, else a loader for UEFI, else its boot sector. Returns when there is nothing. */
const bootPartition = [
  'function boot_partition {',
  '  echo "hades: looking at $1"',
  '  set root=$1',
  '  set kept=$prefix',
  // Fedora's and Red Hat's menus are for a GRUB of their own, with `blscfg`. A folder is asked for only where its own folder
  // is, since GRUB writes an error otherwise.
  '  set own=',
  '  if [ -d ($1)/loader ]; then set own=1; fi',
  '  if [ -d ($1)/boot ]; then',
  '    if [ -d ($1)/boot/loader ]; then set own=1; fi',
  '  fi',
  '  if [ -z "$own" ]; then',
  `    for file in ${menus.join(' ')}; do`,
  '      if [ -f ($1)$file ]; then',
  '        regexp --set=1:folder "^(.*)/grub.cfg" "$file"',
  '        set prefix=($1)$folder',
  '        configfile ($1)$file',
  '        set prefix=$kept',
  '      fi',
  '    done',
  `    for file in ${extlinuxMenus.join(' ')}; do`,
  '      if [ -f ($1)$file ]; then syslinux_configfile ($1)$file; fi',
  '    done',
  '  fi',
  ...onFirmware(
    [
      `for file in ${efiLoaders.join(' ')}; do`,
      '  if [ -f ($1)$file ]; then',
      '    if chainloader ($1)$file; then boot; fi',
      '  fi',
      'done',
    ],
    ['if chainloader ($1)+1; then boot; fi'],
  ).map((line) => `  ${line}`),
  '}',
]

function partition({ partition, fsUuid, partUuid, host }: ScriptTo<'partition'>): string[] {
  const numbered = Array.from({ length: disksMax }, (_, disk) => [
    `hd${disk},gpt${partition}`,
    `hd${disk},msdos${partition}`,
  ]).flat()
  return [
    ...bootPartition,
    'unset found',
    ...(fsUuid === undefined ? [] : [`search --no-floppy --fs-uuid --set=found ${fsUuid}`]),
    ...(partUuid === undefined ? [] : byPartUuid(partUuid.toLowerCase(), partition)),
    'if [ -n "$found" ]; then',
    '  boot_partition $found',
    'else',
    // Only devices that there are: asking for another is an error on the console.
    '  set devices=',
    '  for device in (*); do set devices="$devices$device"; done',
    `  for place in ${numbered.join(' ')}; do`,
    '    if regexp "[(]$place[)]" "$devices"; then boot_partition $place; fi',
    '  done',
    'fi',
    `echo 'hades: no partition ${partition} of ${host.name} has a system to boot'`,
  ]
}

/** GRUB 2.06 can tell the UUID of a GPT partition, but not search by it. */
function byPartUuid(partUuid: string, partition: number): string[] {
  return [
    'if [ -z "$found" ]; then',
    '  for device in (*); do',
    `    if regexp --set=1:place '^.(.*,gpt${partition}).$' "$device"; then`,
    '      probe --set=uuid --part-uuid $device',
    `      if [ "$uuid" = ${partUuid} ]; then set found=$place; fi`,
    '    fi',
    '  done',
    'fi',
  ]
}
