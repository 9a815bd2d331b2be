// `hades capture`: makes images of machines' disks and shows how they go, live.
import { styleText } from 'node:util'
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import type { CaptureView } from '../contract/capture-types.ts'
import { failureMeanings } from '../contract/failures.ts'
import type { Hygiene } from '../contract/types.ts'
import { type CaptureFinish, captureFinishes } from '../model/capture.ts'
import { isOpen } from '../model/deployment.ts'
import { looks } from './looks.ts'
import { bytes, count } from './options.ts'
import { duration, moment, plain, size } from './output.ts'
import { Progress } from './progress.ts'
import { type OpenSession, type Session, tableOr } from './session.ts'

type StartOptions = {
  readonly name: string
  readonly disk: string
  readonly partition?: number
  readonly repair?: boolean
  readonly finish: CaptureFinish
  readonly maxStored?: number
  readonly wait: boolean
}

export function addCaptureCommands(program: Command, open: OpenSession): void {
  const capture = program
    .command('capture')
    .description("images of machines' disks: make (the word start may be left out), list, show")
  capture
    .command('start <host>', { isDefault: true })
    .description('boots the scout on a machine and makes an image of its disk, with live progress')
    .requiredOption('--name <name:version>', 'what the image is called')
    .option('--disk <disk>', 'path, serial or WWN of the disk; system is the only one', 'system')
    .option('--partition <number>', 'only this partition of it', Number)
    .option('--repair', 'mends in the image what belongs to one machine; the disk stays as it is')
    .addOption(new Option('--finish <action>', 'what the machine does then').choices(captureFinishes).default('reboot'))
    .option('--max-stored <size>', 'no more than this in the library, such as 20GiB', bytes)
    .option('--no-wait', 'start it and return at once')
    .action(async (host: string, options: StartOptions, command: Command) => {
      const session = open(command)
      const { name: image, disk, partition, repair, finish, maxStored } = options
      const { capture: begun } = await session.control.startCapture({
        host,
        image,
        disk,
        finish,
        ...(partition === undefined ? {} : { partition }),
        ...(repair === undefined ? {} : { repair }),
        ...(maxStored === undefined ? {} : { storedBytesMax: maxStored }),
      })
      const { id } = begun.deployment
      if (options.wait) await watch(session, id)
      else session.show(begun, () => `capture ${id} began: watch it with \`hades capture watch ${id}\``)
    })
  addLooks(capture, open)
}

/** The commands about captures that there are. */
function addLooks(capture: Command, open: OpenSession): void {
  capture
    .command('list')
    .description('captures, newest first')
    .option('-n, --last <count>', 'no more than this', count, 20)
    .action(async ({ last }: { last: number }, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listCaptures, 'captures', {}, { rowsMax: last }), ({ captures }) =>
        tableOr(
          'no captures yet: make one with `hades capture <host> --name <name:version>`',
          ['capture', 'host', 'image', 'began', 'state', 'disk', 'stored'],
          captures.map((one) => [
            one.deployment.id,
            one.deployment.host,
            one.image,
            moment(one.deployment.startedAt),
            one.deployment.state,
            one.sizeBytes === undefined ? undefined : size(one.sizeBytes),
            size(one.storedBytes),
          ]),
        ),
      )
    })
  capture
    .command('show <capture>')
    .description('one capture: its steps, what was found in the system, its failure and log')
    .action(async (id: string, _options, command: Command) => {
      const { control, show } = open(command)
      show((await control.getCapture({ deployment: Number(id) })).capture, report)
    })
  capture
    .command('watch <capture>')
    .description('shows a capture until it has ended')
    .action(async (id: string, _options, command: Command) => {
      await watch(open(command), Number(id))
    })
  capture
    .command('cancel <capture>')
    .description('stops a capture; what has come of the disk is removed')
    .action(async (id: string, _options, command: Command) => {
      const { control, show } = open(command)
      show((await control.cancelCapture({ deployment: Number(id) })).capture, report)
    })
}

/** How often a capture is asked about. */
const lookEveryMs = 500

async function watch(session: Session, id: number): Promise<void> {
  const progress = new Progress(process.stderr)
  const leave = (): void => {
    progress[Symbol.dispose]()
    process.stderr.write(`capture ${id} goes on: \`hades capture watch ${id}\`, \`hades capture cancel ${id}\`\n`)
    process.exit(130)
  }
  process.once('SIGINT', leave)
  try {
    const capture = await follow(session, id, progress)
    progress[Symbol.dispose]()
    session.show(capture, report)
    const { state, failure } = capture.deployment
    if (state !== 'done') process.exitCode = failureMeanings[failure?.code ?? 'internal'].exit
  } finally {
    progress[Symbol.dispose]()
    process.removeListener('SIGINT', leave)
  }
}

async function follow({ control }: Session, id: number, progress: Progress): Promise<CaptureView> {
  let said = ''
  const onAbsence = (): void => progress.show([`capture ${id}: the service does not answer; waiting for it`])
  for await (const { capture } of looks(() => control.getCapture({ deployment: id }), {
    everyMs: lookEveryMs,
    onAbsence,
  })) {
    const { deployment } = capture
    const line = doing(capture)
    if (progress.isLive) progress.show([head(capture), `  ${line}`])
    const quarter = deployment.totalBytes > 0 ? Math.floor((4 * deployment.doneBytes) / deployment.totalBytes) : 0
    const key = `${deployment.state} ${deployment.attempt} ${deployment.step ?? ''} ${quarter}`
    if (!progress.isLive && key !== said) {
      progress.note(
        `${moment(new Date().toISOString())}  ${deployment.host}  ${deployment.state}  ${line.replace(/\s+/g, ' ')}`,
      )
    }
    said = key
    if (deployment.endedAt !== undefined) return capture
  }
  throw new Error('a capture is looked at until it has ended')
}

function head({ image, deployment }: CaptureView): string {
  const seconds = (Date.now() - Date.parse(deployment.startedAt)) / 1000
  return styleText('bold', `capture ${deployment.id}  ${deployment.host} -> ${image}  ${duration(seconds)}`)
}

function doing({ storedBytes, deployment }: CaptureView): string {
  const { state, step = '', doneBytes, totalBytes, bytesPerSecond, failure, waitingFor } = deployment
  if (failure) return plain(failure.message.join(': '))
  if (state !== 'deploying') return `${state}  waiting for ${plain(waitingFor ?? 'nothing')}`
  const share = totalBytes > 0 ? doneBytes / totalBytes : 0
  const bar = '█'.repeat(Math.round(share * 20)).padEnd(20, '░')
  const percent = `${Math.floor(share * 100)} %`.padStart(5)
  const amounts = `${size(doneBytes)} of ${size(totalBytes)}  ${size(bytesPerSecond)}/s  ${size(storedBytes)} sent`
  return `${step.padEnd(10)} ${bar} ${percent}  ${amounts}`
}

function report(capture: CaptureView): string {
  const { image, deployment, digest, report: said, sizeBytes, storedBytes } = capture
  const spent = deployment.states.filter(({ step }) => step !== deployment.state || isOpen(deployment.state))
  const total = deployment.states.reduce((sum, { seconds }) => sum + seconds, 0)
  const lines = [
    `capture ${deployment.id} of ${deployment.host} as ${image}: ${deployment.state}  ${duration(total)}`,
    `  states   ${spent.map(({ step, seconds }) => `${step} ${duration(seconds)}`).join(' · ')}`,
  ]
  if (said) {
    const disk = [said.diskPath, size(said.diskSizeBytes), said.diskSerial && `serial ${said.diskSerial}`]
    lines.push(
      `  steps    ${said.steps.map(({ step, seconds }) => `${step} ${duration(seconds)}`).join(' · ')}`,
      `  bytes    ${size(said.bytesRead)} read · ${size(said.bytesSent)} sent · ${size(said.bytesFree ?? 0)} free, left out`,
      `  disk     ${plain(disk.filter(Boolean).join(', '))}`,
    )
  } else if (sizeBytes !== undefined)
    lines.push(`  bytes    ${size(storedBytes)} of a disk of ${size(sizeBytes)} have come`)
  if (digest !== undefined) lines.push(`  digest   ${digest}`)
  if (said) lines.push(...hygieneLines(said.hygiene))
  if (deployment.failure) {
    const { code, message } = deployment.failure
    const where = deployment.failedStep === undefined ? '' : `in ${deployment.failedStep}: `
    lines.push(
      `  failed   ${where}${plain(message.join(': '))}`,
      `  do       ${failureMeanings[code].remedy} [${code}]`,
    )
  } else if (isOpen(deployment.state)) lines.push(`  waits    for ${plain(deployment.waitingFor ?? '')}`)
  if (deployment.log) {
    const tail = deployment.log.trimEnd().split('\n').slice(-15)
    lines.push('  log', ...tail.map((line) => `    ${plain(line)}`))
  }
  return lines.join('\n')
}

/** What was found in a captured system, a line each. */
export function hygieneLines({ systems, findings, notSeen }: Hygiene): string[] {
  const names = systems.map(({ place, filesystem, name }) => `${name ?? 'Linux'} on ${place} (${filesystem})`)
  return [
    `  system   ${plain(names.join(', ')) || 'none found'}`,
    ...findings.map(({ kind, path, text, repaired }) => {
      const mark = repaired ? 'mended' : 'FOUND '
      return `  ${mark}   ${kind.padEnd(12)} ${plain(path)}: ${plain(text)}`
    }),
    ...notSeen.map((text) => `  unseen   ${plain(text)}`),
  ]
}
