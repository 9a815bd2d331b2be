// Syslinux 6 configuration for lpxelinux.0, which fetches `http:` URLs itself. It is only ever given to BIOS machines.
import { askAgainSeconds, type BootScript, type KernelBoot, scriptPathFor } from './scripts.ts'

export function pxelinuxScript(script: BootScript): string[] {
  const { host } = script
  switch (script.target) {
    case 'scout':
      return [`SAY hades: ${host.name} boots the scout`, ...starts('scout', kernel(script.bootUrl, script))]
    case 'netboot': {
      const { profile, biosProgramPath } = script
      const says = `SAY hades: ${host.name} boots ${profile} from the network`
      if (biosProgramPath !== undefined) return [says, ...starts('netboot', [`  PXE ${biosProgramPath}`])]
      if (script.kernel) return [says, ...starts('netboot', kernel(script.bootUrl, script.kernel))]
      return holds(host.name, `profile ${profile} has nothing for BIOS machines`)
    }
    case 'local':
      // -1 hands over to the BIOS, which goes on with its next boot device; 0 and 0x80 cost seconds more.
      return [`SAY hades: ${host.name} boots its disk`, 'DEFAULT local', 'PROMPT 0', 'LABEL local', '  LOCALBOOT -1']
    case 'partition':
      return [
        `SAY hades: ${host.name} boots partition ${script.partition}`,
        // GRUB itself hears nothing from the network after lpxelinux, which leaves the card's PXE driver open (seen with
        // iPXE's). iPXE as a Linux kernel brings drivers of its own, and starts GRUB by the host's iPXE script.
        ...starts('partition', [
          `  LINUX ${script.bootUrl}/ipxe.lkrn`,
          `  APPEND dhcp && chain ${script.bootUrl}/${scriptPathFor('ipxe', host.mac)}`,
        ]),
      ]
    case 'hold':
      return holds(host.name, script.why)
  }
}

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

function starts(label: string, what: readonly string[]): string[] {
  return [`DEFAULT ${label}`, 'PROMPT 0', ...askAgain, `LABEL ${label}`, ...what]
}

function holds(host: string, why: string | undefined): string[] {
  return [
    `SAY hades: ${host} is on hold${why === undefined ? '' : `: ${why}`}`,
    'DEFAULT again',
    'PROMPT 1',
    ...askAgain,
  ]
}

function kernel(bootUrl: string, { kernelPath, initrdPaths, args }: KernelBoot): string[] {
  const initrds = initrdPaths.map((path) => `${bootUrl}/${path}`).join(',')
  return [
    `  LINUX ${bootUrl}/${kernelPath}`,
    ...(initrds === '' ? [] : [`  INITRD ${initrds}`]),
    ...(args.length === 0 ? [] : [`  APPEND ${args.join(' ')}`]),
  ]
}
