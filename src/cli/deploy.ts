// `hades deploy` and `hades rollout`: starts rollouts and shows live, host by host, how they go. The exit code tells
// whether every host ended well.
import { styleText } from 'node:util'
import { type Command, Option } from 'commander'
import { failureMeanings } from '../contract/failures.ts'
import type { DeploymentView, RolloutView } from '../contract/types.ts'
import { isActive } from '../model/deployment.ts'
import { type RedeployMode, redeployModes } from '../model/layout.ts'
import { type TransferEngine, transferEngines } from '../model/swarm.ts'
import { looks } from './looks.ts'
import { type LimitOptions, limitsInput, withLimits } from './options.ts'
import { duration, moment, plain, size } from './output.ts'
import { showPlan } from './plan.ts'
import { Progress } from './progress.ts'
import { type OpenSession, type Session, tableOr } from './session.ts'
import { copies, fromPeers } from './swarm.ts'

/** How often a rollout is asked about. */
const lookEveryMs = 500

type DeployOptions = LimitOptions & {
  readonly setup?: string
  readonly engine?: TransferEngine
  readonly redeploy?: RedeployMode
  readonly max?: string
  readonly plan?: boolean
  readonly acceptNewDisk?: boolean
  readonly ignoreInventory?: boolean
  readonly wait: boolean
}

export function addDeployCommands(program: Command, open: OpenSession): void {
  addDeployCommand(program, open)
  addRolloutCommands(program, open)
}

function addDeployCommand(program: Command, open: OpenSession): void {
  const deploy = program
    .command('deploy <nodeset>')
    .description('deploys a setup to machines, with live progress')
    .option('--setup <name[:version]>', "the setup; each host's own when not given")
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
    .option('--max <count>', 'refuse when the nodeset has more hosts than this')
    .option('--plan', 'only show what would be done to which disk, and what would keep it from starting')
    .option('--accept-new-disk', 'overwrite disks too that no deployment of their machine has proven before')
    .option('--ignore-inventory', 'what is known of disks and firmware is out of date: only the agents look')
    .option('--no-wait', 'start it and return at once')
    .action(async (nodeset: string, options: DeployOptions, command: Command) => {
      const session = open(command)
      const { setup, engine, redeploy, max, acceptNewDisk, ignoreInventory } = options
      const order = {
        nodeset,
        ...(setup === undefined ? {} : { setup }),
        ...(max === undefined ? {} : { max: Number(max) }),
        ...(acceptNewDisk === undefined ? {} : { acceptNewDisk }),
        ...(ignoreInventory === undefined ? {} : { ignoreInventory }),
      }
      if (options.plan) return await showPlan(session, order)
      const { rollout } = await session.control.startRollout({
        ...order,
        ...(engine === undefined ? {} : { engine }),
        ...(redeploy === undefined ? {} : { redeploy }),
        ...limitsInput(options),
      })
      if (options.wait) await watch(session, rollout.id)
      else session.show(rollout, ({ id }) => `rollout ${id} began: watch it with \`hades rollout watch ${id}\``)
    })
}

function addRolloutCommands(program: Command, open: OpenSession): void {
  const rollouts = program.command('rollout').description('rollouts: list, show, watch, cancel')
  rollouts
    .command('list')
    .description('rollouts, newest first')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await control.listRollouts({}), (result) =>
        tableOr(
          'no rollouts yet: start one with `hades deploy`',
          ['rollout', 'setup', 'began', 'hosts'],
          result.rollouts.map((one) => [
            one.id,
            one.captures ? `captures ${one.captures}` : one.setup,
            moment(one.startedAt),
            tally(one),
          ]),
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
  rollouts
    .command('cancel <rollout> [nodeset]')
    .description('stops what has not ended, of all its hosts or some')
    .action(async (id: string, nodeset: string | undefined, _options, command: Command) => {
      const { control, show } = open(command)
      const input = { rollout: Number(id), ...(nodeset === undefined ? {} : { nodeset }) }
      show((await control.cancelRollout(input)).rollout, report)
    })
}

function tally(rollout: RolloutView): string {
  const counts = new Map<string, number>()
  for (const { state } of rollout.deployments) counts.set(state, (counts.get(state) ?? 0) + 1)
  return [...counts].map(([state, count]) => `${count} ${state}`).join(', ')
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
    const failed = rollout.deployments.find(({ state }) => state !== 'done')
    if (failed) process.exitCode = failureMeanings[failed.failure?.code ?? 'internal'].exit
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
  const head = `rollout ${rollout.id}  ${what}  by ${rollout.engine}  ${duration(seconds)}  ${tally(rollout)}`
  const running = rollout.deployments.filter(({ state }) => isActive(state))
  const shown = rollout.deployments.length <= linesMax ? rollout.deployments : running.slice(0, linesMax)
  const hidden = rollout.deployments.length - shown.length
  return [
    styleText('bold', head),
    ...shown.map((one) => `  ${one.host.padEnd(10)} ${coloured(one)} ${doing(one)}`),
    ...(hidden > 0 ? [`  and ${hidden} more`] : []),
  ]
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

/** How much came from peers, of a host whose agent counts it. */
function shareOf({ transfer }: DeploymentView): string[] {
  return transfer ? fromPeers(transfer.fromPeersBytes, transfer.fromOriginBytes) : []
}

function total(one: DeploymentView): number {
  return one.states.reduce((sum, { seconds }) => sum + seconds, 0)
}

/** For logs: a line when a host enters a state or step, and at each quarter of the bytes. */
function* news(rollout: RolloutView, said: Map<number, string>): Generator<string> {
  for (const one of rollout.deployments) {
    const quarter = one.totalBytes > 0 ? Math.floor((4 * one.doneBytes) / one.totalBytes) : 0
    const key = `${one.state} ${one.attempt} ${one.step ?? ''} ${quarter}`
    if (said.get(one.id) === key) continue
    said.set(one.id, key)
    yield `${moment(new Date().toISOString())}  ${one.host}  ${one.state}  ${doing(one).replace(/\s+/g, ' ')}`
  }
}

/** How each host of a rollout went: states and steps with their seconds, bytes, failure, log. */
function report(rollout: RolloutView): string {
  const { copiesOutOfOrigin, egressBytesPerSecond, ingressBytesPerSecond } = rollout
  const transfer = [
    `by ${rollout.engine}`,
    ...(egressBytesPerSecond === undefined ? [] : [`out at most ${size(egressBytesPerSecond)}/s a host`]),
    ...(ingressBytesPerSecond === undefined ? [] : [`in at most ${size(ingressBytesPerSecond)}/s a host`]),
    ...(copiesOutOfOrigin === undefined ? [] : [`${copies(copiesOutOfOrigin)} out of the origin`]),
  ]
  const lines = [`rollout ${rollout.id} of ${rollout.setup}: ${tally(rollout)}`, transfer.join(' · ')]
  for (const one of rollout.deployments) {
    lines.push(
      '',
      `${one.host}  ${one.state}${one.attempt > 1 ? ` in attempt ${one.attempt}` : ''}  ${duration(total(one))}`,
    )
    const spent = one.states.filter(({ step }) => step !== one.state || isActive(one.state))
    lines.push(`  states   ${spent.map(({ step, seconds }) => `${step} ${duration(seconds)}`).join(' · ')}`)
    if (one.proof) {
      const { proof } = one
      const disk = [proof.diskPath, size(proof.diskSizeBytes), proof.diskSerial && `serial ${proof.diskSerial}`]
      lines.push(
        `  steps    ${proof.steps.map(({ step, seconds }) => `${step} ${duration(seconds)}`).join(' · ')}`,
        `  bytes    ${size(proof.bytesFetched)} fetched · ${size(proof.bytesWritten)} written · ${size(proof.bytesZeroed)} zeroed · ${proof.bytesKept ? `${size(proof.bytesKept)} kept · ` : ''}${size(proof.bytesReadBack)} read back and equal`,
        `  disk     ${plain(disk.filter(Boolean).join(', '))}`,
      )
    }
    if (one.transfer) {
      const { transfer } = one
      const from = [
        `${size(transfer.fromOriginBytes)} from the origin`,
        `${size(transfer.fromPeersBytes)} from peers`,
        `${size(transfer.toPeersBytes)} to peers`,
        ...shareOf(one),
      ]
      lines.push(`  image    ${from.join(' · ')}`)
    }
    if (one.failure) {
      lines.push(
        `  failed   ${one.failedStep === undefined ? '' : `in ${one.failedStep}: `}${plain(one.failure.message.join(': '))}`,
        `  do       ${failureMeanings[one.failure.code].remedy} [${one.failure.code}]`,
      )
    } else if (isActive(one.state)) lines.push(`  waits    for ${plain(one.waitingFor ?? '')}`)
    if (one.log)
      lines.push(
        '  log',
        ...one.log
          .trimEnd()
          .split('\n')
          .slice(-15)
          .map((line) => `    ${plain(line)}`),
      )
  }
  return lines.join('\n')
}
