// iPXE scripts. iPXE runs under BIOS and under UEFI, and says in `platform` under which.
import { askAgainSeconds, type BootScript, type KernelBoot, type ScriptTo, scriptPathFor } from './scripts.ts'

export function ipxeScript(script: BootScript): string[] {
  const { host, bootUrl } = script
  const again = [
    ':again',
    `echo hades: asking again in ${askAgainSeconds} s`,
    'imgfree',
    `sleep ${askAgainSeconds}`,
    `chain --replace --autofree ${bootUrl}/${scriptPathFor('ipxe', host.mac)} || goto again`,
  ]
  const says = (text: string) => ['#!ipxe', `echo hades: ${host.name} ${text}`]
  switch (script.target) {
    case 'scout':
      return [...says('boots the scout'), ...kernel(bootUrl, script), ...again]
    case 'netboot':
      return [...says(`boots ${script.profile} from the network`), ...netboot(script), ...again]
    case 'local':
      return [
        ...says('boots its disk'),
        onEfi,
        'sanboot --no-describe --drive 0x80 ||',
        // The BIOS goes on with its next boot device.
        'exit',
        ':efi',
        // After an exit UEFI firmware tries the network again for a minute or stops in its menu; GRUB starts the disk.
        `chain --autofree ${bootUrl}/grubx64.efi || goto again`,
        ...again,
      ]
    case 'partition':
      // GRUB asks for its own script, which finds the partition.
      return [
        ...says(`boots partition ${script.partition}`),
        onEfi,
        `chain --autofree ${bootUrl}/grubpc.0 || goto again`,
        ':efi',
        `chain --autofree ${bootUrl}/grubx64.efi || goto again`,
        ...again,
      ]
    case 'hold':
      return [...says(`is on hold${script.why === undefined ? '' : `: ${script.why}`}`), ...again]
  }
}

const onEfi = `iseq \${platform} efi && goto efi ||`

function netboot(script: ScriptTo<'netboot'>): string[] {
  const { bootUrl, biosProgramPath, uefiProgramPath } = script
  if (biosProgramPath === undefined && uefiProgramPath === undefined && script.kernel) {
    return kernel(bootUrl, script.kernel)
  }
  const way = (program: string | undefined, firmware: string): string[] => {
    if (program !== undefined) return [`chain --autofree ${bootUrl}/${program} || goto again`]
    if (script.kernel) return kernel(bootUrl, script.kernel)
    return [`echo hades: profile ${script.profile} has nothing for ${firmware} machines`]
  }
  return [onEfi, ...way(biosProgramPath, 'BIOS'), 'goto again', ':efi', ...way(uefiProgramPath, 'UEFI')]
}

function kernel(bootUrl: string, { kernelPath, initrdPaths, args }: KernelBoot): string[] {
  // Under UEFI the kernel itself opens its initrds, by these names, in a file system that iPXE makes up.
  const names = initrdPaths.map((path) => `initrd=${path.slice(path.lastIndexOf('/') + 1)}`)
  return [
    `kernel ${[`${bootUrl}/${kernelPath}`, ...names, ...args].join(' ')} || goto again`,
    ...initrdPaths.map((path) => `initrd ${bootUrl}/${path} || goto again`),
    'boot || goto again',
  ]
}
