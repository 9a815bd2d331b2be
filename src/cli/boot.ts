// `hades boot`: what machines boot next.
import { type Command, Option } from 'commander'
import { type BootTarget, bootTargets } from '../model/boot.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

type BootRecord = {
  readonly host: string
  readonly target: string
  readonly defaultTarget: string
  readonly deployment?: number
  readonly changedAt: string
}

function records(rows: { readonly records: readonly BootRecord[] }): string {
  return tableOr(
    'no hosts yet',
    ['host', 'boots', 'by default', 'for deployment', 'since'],
    rows.records.map((one) => [one.host, one.target, one.defaultTarget, one.deployment, moment(one.changedAt)]),
  )
}

export function addBootCommands(program: Command, open: OpenSession): void {
  const boot = program.command('boot').description('boot records: what machines boot when they next ask')
  boot
    .command('list [nodeset]')
    .description('the boot records')
    .action(async (nodeset: string | undefined, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.listBoot(nodeset === undefined ? {} : { nodeset }), records)
    })
  boot
    .command('set <nodeset>')
    .description('points machines at a boot target, in one transaction')
    .addOption(new Option('--target <target>', 'what they boot').choices(bootTargets).makeOptionMandatory())
    .option('--default', 'as their default too')
    .action(async (nodeset: string, options: { target: BootTarget; default?: boolean }, command: Command) => {
      const { control, show } = open(command)
      const input = { nodeset, target: options.target, asDefault: options.default ?? false }
      show(await control.setBoot(input), records)
    })
}
