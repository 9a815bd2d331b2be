// `hades rollout`: rollouts that were started: list, show, watch, hold, cancel, do again.
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import { retryChoices } from '../contract/rollouts.ts'
import type { RolloutView } from '../contract/types.ts'
import { watch } from './deploy.ts'
import { count } from './options.ts'
import { moment } from './output.ts'
import { given } from './rollout-options.ts'
import { report, standing } from './rollout-report.ts'
import { type OpenSession, tableOr } from './session.ts'

export function addRolloutCommands(program: Command, open: OpenSession): void {
  const rollouts = program.command('rollout').description('rollouts: list, show, watch, pause, resume, retry, cancel')
  rollouts
    .command('list')
    .description('rollouts, newest first')
    .option('-n, --last <count>', 'no more than this', count, 20)
    .option('--active', 'only those that have not ended')
    .action(async ({ last, active }: { last: number; active?: true }, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listRollouts, 'rollouts', active ? { active } : {}, { rowsMax: last }), (result) =>
        tableOr(
          'no rollouts yet: start one with `hades deploy`',
          ['rollout', 'setup', 'began', 'state', 'hosts', 'waits for'],
          result.rollouts.map(row),
        ),
      )
    })
  rollouts
    .command('show <rollout>')
    .description('each host of a rollout, with its steps, failure and log')
    .action(async (id: string, _options, command: Command) => {
      const { control, show } = open(command)
      show((await control.getRollout({ rollout: Number(id) })).rollout, report)
    })
  rollouts
    .command('watch <rollout>')
    .description('shows a rollout until it has ended')
    .action(async (id: string, _options, command: Command) => {
      await watch(open(command), Number(id))
    })
  addHoldCommands(rollouts, open)
  addEndCommands(rollouts, open)
}

function row(one: RolloutView): (string | number | undefined)[] {
  const what = one.captures ? `captures ${one.captures}` : one.setup
  return [one.id, what, moment(one.startedAt), one.state, standing(one), one.waitsFor]
}

function addHoldCommands(rollouts: Command, open: OpenSession): void {
  rollouts
    .command('pause <rollout>')
    .description('lets no more hosts begin; those under way go on')
    .option('--reason <words>', 'shown to whoever looks at it')
    .action(async (id: string, options: { reason?: string }, command: Command) => {
      const { control, show } = open(command)
      show((await control.pauseRollout({ rollout: Number(id), ...given(options) })).rollout, report)
    })
  rollouts
    .command('resume <rollout>')
    .description('lets a paused rollout go on; what has failed so far is accepted')
    .action(async (id: string, _options, command: Command) => {
      const { control, show } = open(command)
      show((await control.resumeRollout({ rollout: Number(id) })).rollout, report)
    })
}

type RetryOptions = {
  readonly which?: (typeof retryChoices)[number]
  readonly includeProtected?: string
  readonly wait: boolean
}

function addEndCommands(rollouts: Command, open: OpenSession): void {
  rollouts
    .command('cancel <rollout> [nodeset]')
    .description('stops what has not ended, of all its hosts or some; their boot records go back to the default')
    .option('--reboot', 'power-cycle those that were under way into what they boot by default')
    .action(async (id: string, nodeset: string | undefined, options: { reboot?: boolean }, command: Command) => {
      const { control, show } = open(command)
      const input = { rollout: Number(id), ...given({ nodeset, reboot: options.reboot }) }
      show(await control.cancelRollout(input), ({ rollout, task }) =>
        [report(rollout), ...(task ? [`task ${task.id} switches the machines that were under way`] : [])].join('\n'),
      )
    })
  rollouts
    .command('retry <rollout> [nodeset]')
    .description('does hosts again in the same rollout: those that failed, all that are not done, or those named')
    .addOption(new Option('--which <hosts>', 'failed when not given').choices(retryChoices))
    .option('--include-protected <nodeset>', 'protected hosts that are meant, by their names')
    .option('--no-wait', 'begin it and return at once')
    .action(async (id: string, nodeset: string | undefined, options: RetryOptions, command: Command) => {
      const session = open(command)
      const { which, includeProtected, wait } = options
      const input = { rollout: Number(id), ...given({ which, nodeset, includeProtected }) }
      const { rollout } = await session.control.retryRollout(input)
      if (wait) await watch(session, rollout.id)
      else session.show(rollout, report)
    })
}
