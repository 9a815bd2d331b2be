// `hades boot`: what machines boot next, and switching them so that they do.
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import { failureMeanings } from '../contract/failures.ts'
import type { RebootOutcome, TaskView } from '../contract/types.ts'
import { bootTargetForms, parseBootTarget } from '../model/boot.ts'
import { looks } from './looks.ts'
import { moment } from './output.ts'
import { Progress } from './progress.ts'
import { type OpenSession, type Session, tableOr } from './session.ts'

type BootRecord = {
  readonly host: string
  readonly target: string
  readonly defaultTarget: string
  readonly once: boolean
  readonly deployment?: number
  readonly changedAt: string
}

type SetOptions = {
  readonly target: string
  readonly default?: boolean
  readonly once?: boolean
  readonly reboot?: boolean
  readonly wait: boolean
}

/** How often a task is asked about. */
const lookEveryMs = 500

function records(rows: { readonly records: readonly BootRecord[] }): string {
  return tableOr(
    'no hosts yet',
    ['host', 'boots', 'by default', 'for deployment', 'since'],
    rows.records.map((one) => [
      one.host,
      one.once ? `${one.target}, once` : one.target,
      one.defaultTarget,
      one.deployment,
      moment(one.changedAt),
    ]),
  )
}

export function addBootCommands(program: Command, open: OpenSession): void {
  const boot = program.command('boot').description('boot records: what machines boot when they next ask')
  boot
    .command('list [nodeset]')
    .description('the boot records')
    .action(async (nodeset: string | undefined, _options, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listBoot, 'records', nodeset === undefined ? {} : { nodeset }), records)
    })
  boot
    .command('set <nodeset>')
    .description('points machines at a boot target, in one transaction')
    .addOption(new Option('--target <target>', `what they boot: ${bootTargetForms}`).makeOptionMandatory())
    .option('--default', 'as their default too')
    .option('--once', 'for one boot; then their default again')
    .option('--reboot', 'power-cycle them too, after their system was given time to shut down')
    .option('--no-wait', 'with --reboot: return at once; `hades boot watch` tells how it goes')
    .action(async (nodeset: string, options: SetOptions, command: Command) => {
      const session = open(command)
      const result = await session.control.setBoot({
        nodeset,
        target: parseBootTarget(options.target, '--target'),
        asDefault: options.default ?? false,
        once: options.once ?? false,
        reboot: options.reboot ?? false,
      })
      const { task } = result
      if (task === undefined) session.show(result, records)
      else if (options.wait) await watch(session, task.id)
      else session.show(task, ({ id }) => `task ${id} switches them: watch it with \`hades boot watch ${id}\``)
    })
  boot
    .command('watch <task>')
    .description('shows how the switching of machines goes, until it has ended')
    .action(async (task: string, _options, command: Command) => {
      await watch(open(command), Number(task))
    })
}

/** Shows a task to its end, a line a machine; the exit code tells whether every machine got there. */
async function watch(session: Session, id: number): Promise<void> {
  const progress = new Progress(process.stderr)
  const leave = (): void => {
    progress[Symbol.dispose]()
    process.stderr.write(`task ${id} goes on: \`hades boot watch ${id}\`\n`)
    process.exit(130)
  }
  process.once('SIGINT', leave)
  try {
    const task = await follow(session, id, progress)
    progress[Symbol.dispose]()
    session.show(task, outcomes)
    if (task.state === 'failed') process.exitCode = failureMeanings[task.failure?.code ?? 'internal'].exit
  } finally {
    progress[Symbol.dispose]()
    process.removeListener('SIGINT', leave)
  }
}

async function follow({ control }: Session, id: number, progress: Progress): Promise<TaskView> {
  const said = new Map<string, string>()
  const onAbsence = (): void => progress.show([`task ${id}: the service does not answer; waiting for it`])
  const look = () => control.getTask({ task: id })
  for await (const { task } of looks(look, { everyMs: lookEveryMs, onAbsence })) {
    const rows = task.reboots ?? []
    for (const row of rows) {
      const now = line(row)
      if (said.get(row.host) !== now && row.state !== 'waiting') progress.note(now)
      said.set(row.host, now)
    }
    if (task.state !== 'running') return task
    const open = rows.filter(({ state }) => state !== 'done' && state !== 'failed')
    const failed = rows.filter(({ state }) => state === 'failed').length
    progress.show([`${rows.length - open.length} of ${rows.length} machines, ${failed} failed`, ...open.map(line)])
  }
  throw new Error('the service was asked for the last time')
}

function line({ host, state, said, failure }: RebootOutcome): string {
  return `${host}: ${state}${said === undefined ? '' : `, ${said}`}${failure ? `: ${failure.message.join(': ')}` : ''}`
}

function outcomes(task: TaskView): string {
  return tableOr(
    'no machine was to be switched',
    ['host', 'target', 'state', 'said', 'failure'],
    (task.reboots ?? []).map((one) => [one.host, one.target, one.state, one.said, one.failure?.message.join(': ')]),
  )
}
