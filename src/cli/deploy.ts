// `hades deploy` and `hades plan`: plans and starts rollouts, and shows live, host by host, how they go. The exit code
// tells whether as many hosts ended well as were asked for.
import { styleText } from 'node:util'
import { type Command, Option } from 'commander'
import { failureMeanings } from '../contract/failures.ts'
import type { DeploymentView, RolloutView } from '../contract/types.ts'
import { isActive } from '../model/deployment.ts'
import { type RedeployMode, redeployModes } from '../model/layout.ts'
import { type TransferEngine, transferEngines } from '../model/swarm.ts'
import { confirmed } from './confirm.ts'
import { looks } from './looks.ts'
import { type LimitOptions, limitsInput, withLimits } from './options.ts'
import { duration, moment, plain, size } from './output.ts'
import { showPlan } from './plan.ts'
import { Progress } from './progress.ts'
import { given, type RolloutOptions, rolloutOrder, withRolloutOptions } from './rollout-options.ts'
import { report, shareOf, standing, total } from './rollout-report.ts'
import type { OpenSession, Session } from './session.ts'

/** How often a rollout is asked about. */
const lookEveryMs = 500

type DeployOptions = LimitOptions &
  RolloutOptions & {
    readonly engine?: TransferEngine
    readonly redeploy?: RedeployMode
    readonly plan?: boolean
    readonly wait: boolean
  }

export function addDeployCommands(program: Command, open: OpenSession): void {
  const deploy = program.command('deploy <nodeset>').description('deploys a setup to machines, with live progress')
  withRolloutOptions(deploy)
    .addOption(
      new Option('--engine <engine>', "how the image travels; the setup's word when not given").choices(
        transferEngines,
      ),
    )
    .addOption(
      new Option(
        '--redeploy <mode>',
        "compare what the disks hold first, and fetch and write the rest; the setup's word when not given",
      ).choices(redeployModes),
    )
  withLimits(deploy, 'all that one host sends to others, such as 50M', 'all that one host receives of the image')
    .option('--plan', 'only show what would be done to which disk, and what would keep it from starting')
    .option('--no-wait', 'start it and return at once')
    .action(async (nodeset: string, options: DeployOptions, command: Command) => {
      const session = open(command)
      const order = rolloutOrder(nodeset, options)
      if (options.plan) return await showPlan(session, order)
      const { engine, redeploy } = options
      const transfer = { ...given({ engine, redeploy }), ...limitsInput(options) }
      const { rollout } = await confirmed(session, order, (confirm) =>
        session.control.startRollout({ ...order, ...transfer, ...confirm }),
      )
      if (options.wait) await watch(session, rollout.id)
      else session.show(rollout, ({ id }) => `rollout ${id} began: watch it with \`hades rollout watch ${id}\``)
    })
  const plan = program
    .command('plan <nodeset>')
    .description('shows what deploy would do to which disk, in which order, and what would keep it from starting')
  withRolloutOptions(plan).action(async (nodeset: string, options: RolloutOptions, command: Command) => {
    await showPlan(open(command), rolloutOrder(nodeset, options))
  })
}

/** Shows a rollout until it has ended; the exit code tells how. */
export async function watch(session: Session, id: number): Promise<void> {
  const progress = new Progress(process.stderr)
  const leave = (): void => {
    progress[Symbol.dispose]()
    process.stderr.write(`rollout ${id} goes on: \`hades rollout watch ${id}\`, \`hades rollout cancel ${id}\`\n`)
    process.exit(130)
  }
  process.once('SIGINT', leave)
  try {
    const rollout = await follow(session, id, progress)
    progress[Symbol.dispose]()
    session.show(rollout, report)
    // A quorum is reached without the others.
    const failed = rollout.deployments.find(({ state }) => state !== 'done')
    if (failed && rollout.state !== 'succeeded')
      process.exitCode = failureMeanings[failed.failure?.code ?? 'internal'].exit
  } finally {
    progress[Symbol.dispose]()
    process.removeListener('SIGINT', leave)
  }
}

async function follow({ control }: Session, id: number, progress: Progress): Promise<RolloutView> {
  const said = new Map<number, string>()
  const onAbsence = (): void => progress.show([`rollout ${id}: the service does not answer; waiting for it`])
  for await (const { rollout } of looks(() => control.getRollout({ rollout: id }), {
    everyMs: lookEveryMs,
    onAbsence,
  })) {
    if (progress.isLive) progress.show(live(rollout))
    else for (const line of news(rollout, said)) progress.note(line)
    if (rollout.endedAt !== undefined) return rollout
  }
  throw new Error('a rollout is looked at until it has ended')
}

/** As many hosts as a terminal shows; the others are counted. */
const linesMax = 30

function live(rollout: RolloutView): string[] {
  const seconds = (Date.now() - Date.parse(rollout.startedAt)) / 1000
  const what = rollout.captures ? `captures ${rollout.captures}` : rollout.setup
  const head = `rollout ${rollout.id}  ${what}  by ${rollout.engine}  ${duration(seconds)}  ${rollout.state}: ${standing(rollout)}`
  // Those that wait to begin are told by what the rollout waits for.
  const running = rollout.deployments.filter(({ state }) => isActive(state))
  const shown = rollout.deployments.length <= linesMax ? rollout.deployments : running.slice(0, linesMax)
  const hidden = rollout.deployments.length - shown.length
  return [
    styleText('bold', head),
    ...(rollout.waitsFor === undefined ? [] : [`  ${plain(waits(rollout))}`]),
    ...shown.map((one) => `  ${one.host.padEnd(10)} ${coloured(one)} ${doing(one)}`),
    ...(hidden > 0 ? [`  and ${hidden} more`] : []),
  ]
}

/** What must happen before more hosts begin. */
function waits({ wave, waves, waitsFor }: RolloutView): string {
  const where = wave === undefined ? '' : wave === 0 ? 'the canary: ' : `wave ${wave} of ${waves}: `
  return `${where}waits for ${waitsFor}`
}

function coloured({ state }: DeploymentView): string {
  const colour = state === 'done' ? 'green' : state === 'failed' ? 'red' : state === 'cancelled' ? 'yellow' : 'cyan'
  return styleText(colour, state.padEnd(10))
}

/** What a deployment does at this moment, or how it ended, in a few words. */
function doing(one: DeploymentView): string {
  const spent = (Date.now() - Date.parse(one.stateSince)) / 1000
  if (one.failure) return plain(one.failure.message.join(': '))
  if (one.state === 'done') return [`in ${duration(total(one))}`, ...shareOf(one)].join(', ')
  const waiting = plain(one.waitingFor ?? '')
  if (one.state !== 'deploying') return `${duration(spent).padStart(9)}  waiting for ${waiting}`
  const share = one.totalBytes > 0 ? one.doneBytes / one.totalBytes : 0
  const bar = '█'.repeat(Math.round(share * 20)).padEnd(20, '░')
  const percent = `${Math.floor(share * 100)} %`.padStart(5)
  return `${(one.step ?? '').padEnd(10)} ${bar} ${percent}  ${size(one.doneBytes)} of ${size(one.totalBytes)}  ${size(one.bytesPerSecond)}/s`
}

/** For logs: a line when the rollout waits for something else, when a host enters a state or step, and at each quarter of the bytes. */
function* news(rollout: RolloutView, said: Map<number, string>): Generator<string> {
  const held = rollout.waitsFor === undefined ? rollout.state : `${rollout.state}, ${waits(rollout)}`
  if (said.get(0) !== held) {
    said.set(0, held)
    yield `${moment(new Date().toISOString())}  rollout ${rollout.id}  ${plain(held)}`
  }
  for (const one of rollout.deployments) {
    if (one.state === 'waiting') continue
    const quarter = one.totalBytes > 0 ? Math.floor((4 * one.doneBytes) / one.totalBytes) : 0
    const key = `${one.state} ${one.attempt} ${one.step ?? ''} ${quarter}`
    if (said.get(one.id) === key) continue
    said.set(one.id, key)
    yield `${moment(new Date().toISOString())}  ${one.host}  ${one.state}  ${doing(one).replace(/\s+/g, ' ')}`
  }
}
