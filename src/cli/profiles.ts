// `hades profile`: what machines with the target `netboot:<name>` boot.
import type { Command } from 'commander'
import { allPages } from '../client/pages.ts'
import type { controlOperations } from '../contract/control.ts'
import type { Output } from '../contract/operation.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

type ProfileView = Output<typeof controlOperations.getProfile>['profile']

type PutOptions = {
  readonly kernel?: string
  readonly initrd?: string[]
  readonly args?: string
  readonly biosProgram?: string
  readonly uefiProgram?: string
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

export function addProfileCommands(program: Command, open: OpenSession): void {
  const profile = program
    .command('profile')
    .description('netboot profiles: kernels and programs that machines boot instead of their disk')
  profile
    .command('put <name>')
    .description("stores a profile; its files lie in netboot/<name> of the service's data folder")
    .option('--kernel <file>', 'a Linux kernel, or what starts like one; /scout/vmlinuz is the one of the scout')
    .option('--initrd <file>', 'an initial RAM disk; again for more', collect)
    .option(
      '--args <arguments>',
      'arguments of the kernel, with {{host}}, {{mac}}, {{ip}} and others (docs/netboot.md)',
    )
    .option('--bios-program <file>', 'a PXE boot program (.0, .kpxe) that BIOS machines get instead')
    .option('--uefi-program <file>', 'an EFI program that UEFI machines get instead')
    .action(async (name: string, options: PutOptions, command: Command) => {
      const { control, show } = open(command)
      const { kernel, initrd, args, biosProgram, uefiProgram } = options
      const result = await control.putProfile({
        name,
        ...(kernel === undefined ? {} : { kernel }),
        ...(initrd === undefined ? {} : { initrds: initrd }),
        ...(args === undefined ? {} : { arguments: args }),
        ...(biosProgram === undefined ? {} : { biosProgram }),
        ...(uefiProgram === undefined ? {} : { uefiProgram }),
      })
      show(result, () => `profile ${name} was put: boot it with \`hades boot set <nodeset> --target netboot:${name}\``)
    })
  profile
    .command('list')
    .description('the profiles there are')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listProfiles, 'profiles', {}), ({ profiles }) =>
        tableOr(
          'no profiles yet: put one with `hades profile put`',
          ['profile', 'kernel', 'for BIOS', 'for UEFI', 'put'],
          profiles.map((one) => [one.name, one.kernel, one.biosProgram, one.uefiProgram, moment(one.changedAt)]),
        ),
      )
    })
  profile
    .command('show <name>')
    .description('one profile')
    .action(async (name: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getProfile({ name }), (result) => details(result.profile))
    })
  profile
    .command('remove <name>')
    .description('forgets a profile that no boot record names; its files stay')
    .action(async (name: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.removeProfile({ name }), () => `profile ${name} was removed`)
    })
}

function details(profile: ProfileView): string {
  const lines: [string, string | undefined][] = [
    ['profile', profile.name],
    ['files in', profile.folder],
    ['kernel', profile.kernel],
    ['initrds', profile.initrds.join(', ')],
    ['arguments', profile.arguments],
    ['for BIOS', profile.biosProgram],
    ['for UEFI', profile.uefiProgram],
    ['put', moment(profile.changedAt)],
  ]
  return lines
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => `${name.padEnd(11)} ${value}`)
    .join('\n')
}
