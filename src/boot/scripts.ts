// The scripts that the loaders ask for, rendered for one host: pxelinux, iPXE and GRUB, each from the same plain data.
// Which host asks, and what its boot record says, is for resolve.ts. Every value that enters a script is checked against
// the characters that none of the three languages gives a meaning to, so nothing needs quoting.
import { Failure } from '../model/failure.ts'

export type ScriptHost = {
  readonly name: string
  /** Lower-case with colons. */
  readonly mac: string
}

/**
 * What one host is to do. `bootUrl` is the boot namespace over HTTP, as in `http://10.77.0.1:7780/boot`; the paths are
 * relative to it, and the same over TFTP. `args` are the scout's kernel arguments.
 */
export type BootScript = { readonly host: ScriptHost; readonly bootUrl: string } & (
  | {
      readonly target: 'scout'
      readonly kernelPath: string
      readonly initrdPath: string
      readonly args: readonly string[]
    }
  | { readonly target: 'local' | 'hold' }
)

export const scriptLoaders = ['pxelinux', 'ipxe', 'grub'] as const
export type ScriptLoader = (typeof scriptLoaders)[number]

/** How long a machine that cannot go on, or must not, waits before it asks for its script again. */
const askAgainSeconds = 10
/** Linux on x86 takes 2048 bytes with the final NUL (COMMAND_LINE_SIZE); loaders add `initrd=` and `BOOT_IMAGE=`. */
const argsLengthMax = 1800

/**
 * What the scout's kernel is always given: output on the screen and the first serial port, without the kernel's own, and no
 * self-tests of ciphers, which take seconds of the boot and find nothing on a kernel that others run too.
 */
export const scoutKernelArgs = ['console=tty0', 'console=ttyS0,115200n8', 'quiet', 'cryptomgr.notests'] as const

/** The path that a loader asks for: pxelinux chooses its own, the others follow it. */
const pathPrefixes = { pxelinux: 'pxelinux.cfg/01-', ipxe: 'ipxe/', grub: 'grub/' } as const

/** The path of the script of the host with this MAC (lower-case with colons), the same over TFTP and HTTP. */
export function scriptPathFor(loader: ScriptLoader, mac: string): string {
  return pathPrefixes[loader] + mac.replaceAll(':', '-')
}

/** Which loader asks for the script of which MAC (lower-case with colons) by this path; `undefined`: it is no script's. */
export function scriptOfPath(path: string): { loader: ScriptLoader; mac: string } | undefined {
  const loader = scriptLoaders.find((loader) => path.startsWith(pathPrefixes[loader]))
  if (loader === undefined) return undefined
  const mac = path.slice(pathPrefixes[loader].length)
  return /^[0-9a-f]{2}(-[0-9a-f]{2}){5}$/.test(mac) ? { loader, mac: mac.replaceAll('-', ':') } : undefined
}

/** The script of one host for this loader. Throws Failure `bad-input` for a value that no script may contain. */
export function renderScript(loader: ScriptLoader, script: BootScript): string {
  check(script)
  switch (loader) {
    case 'pxelinux':
      return lines(renderPxelinux(script))
    case 'ipxe':
      return lines(renderIpxe(script))
    case 'grub':
      return lines(renderGrub(script))
  }
}

/** Syslinux 6 configuration for lpxelinux.0, which fetches `http:` URLs itself. */
function renderPxelinux(script: BootScript): string[] {
  const { host } = script
  // pxelinux begins anew and so reads its script anew. CONFIG would be shorter, but where it finds no script, because the
  // service is just being restarted, the machine is left at a prompt for ever; a pxelinux that begins resets the machine
  // after five minutes. TOTALTIMEOUT runs on when somebody touches the keyboard.
  const askAgain = [
    `TIMEOUT ${askAgainSeconds * 10}`,
    `TOTALTIMEOUT ${askAgainSeconds * 10}`,
    'ONTIMEOUT again',
    'LABEL again',
    '  PXE lpxelinux.0',
  ]
  switch (script.target) {
    case 'scout':
      return [
        `SAY hades: ${host.name} boots the scout`,
        'DEFAULT scout',
        'PROMPT 0',
        ...askAgain,
        'LABEL scout',
        `  LINUX ${script.bootUrl}/${script.kernelPath}`,
        `  INITRD ${script.bootUrl}/${script.initrdPath}`,
        `  APPEND ${script.args.join(' ')}`,
      ]
    case 'local':
      // -1 hands over to the BIOS, which goes on with its next boot device; 0 and 0x80 cost seconds more.
      return [`SAY hades: ${host.name} boots its disk`, 'DEFAULT local', 'PROMPT 0', 'LABEL local', '  LOCALBOOT -1']
    case 'hold':
      return [`SAY hades: ${host.name} is on hold`, 'DEFAULT again', 'PROMPT 1', ...askAgain]
  }
}

function renderIpxe(script: BootScript): string[] {
  const { host, bootUrl } = script
  const askAgain = [
    ':again',
    `echo hades: asking again in ${askAgainSeconds} s`,
    'imgfree',
    `sleep ${askAgainSeconds}`,
    `chain --replace --autofree ${bootUrl}/${scriptPathFor('ipxe', host.mac)} || goto again`,
  ]
  switch (script.target) {
    case 'scout': {
      const initrdName = script.initrdPath.slice(script.initrdPath.lastIndexOf('/') + 1)
      return [
        '#!ipxe',
        `echo hades: ${host.name} boots the scout`,
        // Under UEFI the kernel itself opens its initrd, by this name, in a file system that iPXE makes up.
        `kernel ${bootUrl}/${script.kernelPath} initrd=${initrdName} ${script.args.join(' ')} || goto again`,
        `initrd ${bootUrl}/${script.initrdPath} || goto again`,
        'boot || goto again',
        ...askAgain,
      ]
    }
    case 'local':
      return [
        '#!ipxe',
        `echo hades: ${host.name} boots its disk`,
        `iseq \${platform} efi && goto efi ||`,
        'sanboot --no-describe --drive 0x80 ||',
        // The BIOS goes on with its next boot device.
        'exit',
        ':efi',
        // After an exit UEFI firmware tries the network again for a minute or stops in its menu; GRUB starts the disk.
        `chain --autofree ${bootUrl}/grubx64.efi || goto again`,
        ...askAgain,
      ]
    case 'hold':
      return ['#!ipxe', `echo hades: ${host.name} is on hold`, ...askAgain]
  }
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

/**
 * GRUB script, sourced by the loop in scout/loaders/grub.cfg, which sets `server`: when it ends without having booted anything, the loop waits
 * 10 s and asks for it again.
 */
function renderGrub(script: BootScript): string[] {
  const { host } = script
  switch (script.target) {
    case 'scout':
      // Over TFTP, not HTTP: GRUB 2.06 asks for (http,host:port)/ and then times out, and Debian's signed image has no HTTP.
      return [
        `echo 'hades: ${host.name} boots the scout'`,
        `if linux (tftp,$server)/${script.kernelPath} ${script.args.join(' ')}; then`,
        `  if initrd (tftp,$server)/${script.initrdPath}; then boot; fi`,
        'fi',
      ]
    case 'local':
      return [
        `echo 'hades: ${host.name} boots its disk'`,
        `for file in ${efiLoaders.join(' ')}; do`,
        '  if search --no-floppy --set=esp --file $file; then',
        // A loader looks for its own files on the device in `root`; without it the chain ends in an error.
        '    set root=$esp',
        '    if chainloader ($esp)$file; then boot; fi',
        '  fi',
        'done',
        `echo 'hades: no disk of ${host.name} has a system to boot'`,
      ]
    case 'hold':
      return [`echo 'hades: ${host.name} is on hold'`]
  }
}

function check(script: BootScript): void {
  demand(script.host.name, /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'host.name')
  demand(script.host.mac, /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'host.mac')
  demand(script.bootUrl, /^http:\/\/[A-Za-z0-9.-]+(:[0-9]{1,5})?(\/[A-Za-z0-9._-]+)*$/, 'bootUrl')
  if (script.target !== 'scout') return
  demand(script.kernelPath, /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/, 'kernelPath')
  demand(script.initrdPath, /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/, 'initrdPath')
  for (const arg of script.args) demand(arg, /^[A-Za-z0-9 ._:/=,@+-]+$/, 'args')
  const length = script.args.join(' ').length
  if (length > argsLengthMax) {
    throw new Failure('bad-input', `${length} characters of kernel arguments, ${argsLengthMax} are allowed`, {
      at: 'args',
    })
  }
}

function demand(value: string, pattern: RegExp, at: string): void {
  // An argument may be a token: the message names its key, never its value.
  if (!pattern.test(value)) {
    const shown = at === 'args' ? JSON.stringify(value.split('=')[0]) : JSON.stringify(value)
    throw new Failure('bad-input', `${at} ${shown} has a character that no boot script may contain`, { at })
  }
}

function lines(text: readonly string[]): string {
  return `${text.join('\n')}\n`
}
