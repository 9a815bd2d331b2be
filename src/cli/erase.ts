// `hades erase`: takes everything from disks of machines that are given back.
import { type Command, Option } from 'commander'
import { type EraseFinish, type ErasingMethod, eraseFinishes, erasingMethods } from '../model/erase.ts'
import { watch } from './deploy.ts'
import type { OpenSession } from './session.ts'

type EraseOptions = {
  readonly method: ErasingMethod
  readonly yes: string
  readonly disk?: string
  readonly finish?: EraseFinish
  readonly max?: string
  readonly includeProtected?: string
  readonly wait: boolean
}

export function addEraseCommand(program: Command, open: OpenSession): void {
  program
    .command('erase <nodeset>')
    .description('erases disks of machines, with live progress: what they hold is lost')
    .addOption(
      new Option('--method <method>', 'how; secure is the own command of the disk, and fails where it has none')
        .choices(erasingMethods)
        .makeOptionMandatory(),
    )
    .option(
      '--yes <count>',
      'how many machines are meant; it is refused, with their names, when they are not so many',
      '0',
    )
    .option('--disk <disk>', 'path, serial or WWN of one disk, or `all`; the only disk when not given')
    .addOption(
      new Option('--finish <action>', 'what the machines do then; poweroff when not given').choices(eraseFinishes),
    )
    .option('--max <count>', 'refuse when the nodeset has more hosts than this')
    .option('--include-protected <nodeset>', 'protected hosts that are meant, by their names')
    .option('--no-wait', 'start it and return at once')
    .action(async (nodeset: string, options: EraseOptions, command: Command) => {
      const session = open(command)
      const { method, disk, finish, max, includeProtected } = options
      const { rollout } = await session.control.startErase({
        nodeset,
        method,
        confirm: Number(options.yes),
        ...(disk === undefined ? {} : { disk }),
        ...(finish === undefined ? {} : { finish }),
        ...(includeProtected === undefined ? {} : { includeProtected }),
        ...(max === undefined ? {} : { max: Number(max) }),
      })
      if (options.wait) await watch(session, rollout.id)
      else session.show(rollout, ({ id }) => `rollout ${id} began: watch it with \`hades rollout watch ${id}\``)
    })
}
