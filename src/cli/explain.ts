// `hades explain`: why a machine is where it is, what to check, and the events that show it.
import { readFile } from 'node:fs/promises'
import { text as textOf } from 'node:stream/consumers'
import { styleText } from 'node:util'
import type { Command } from 'commander'
import { consoleCharactersMax, type ExplanationView } from '../contract/explain-types.ts'
import type { EventView } from '../contract/types.ts'
import { Failure } from '../model/failure.ts'
import { duration, moment, plain } from './output.ts'
import type { OpenSession } from './session.ts'

type Options = { readonly deployment?: string; readonly console?: string; readonly last: string }

export function addExplainCommand(program: Command, open: OpenSession): void {
  program
    .command('explain <host>')
    .description('why a machine is where it is: what is missing or odd in its last deployment, and what to check')
    .option('-d, --deployment <id>', 'another deployment than its last one')
    .option('--console <file>', 'what its console showed, such as a log of serial-over-LAN; - is standard input')
    .option('-n, --last <count>', 'how many events of the timeline are shown', '40')
    .action(async (host: string, options: Options, command: Command) => {
      const { control, show } = open(command)
      const { explanation } = await control.explainHost({
        host,
        ...(options.deployment === undefined ? {} : { deployment: Number(options.deployment) }),
        ...(options.console === undefined ? {} : { console: await consoleText(options.console) }),
      })
      show(explanation, (it) => text(it, Number(options.last)).join('\n'))
    })
}

/** The end of it, where the trouble is. */
async function consoleText(file: string): Promise<string> {
  try {
    const all = file === '-' ? await textOf(process.stdin) : await readFile(file, 'utf8')
    return all.slice(-consoleCharactersMax)
  } catch (cause) {
    throw new Failure('bad-input', `the console's file ${file} cannot be read`, { cause, at: '--console' })
  }
}

/** The explanation for people: the sentence, the way, the causes, the timeline. */
export function text(explanation: ExplanationView, eventsMax: number): string[] {
  const { summary, causes, events } = explanation
  const shown = eventsMax > 0 ? events.slice(-eventsMax) : []
  return [
    styleText('bold', plain(summary)),
    '',
    ...way(explanation),
    ...causes.flatMap((cause, index) => ['', ...causeLines(cause, index + 1)]),
    ...(shown.length === 0 ? [] : ['', `timeline (${shown.length} of ${events.length} events):`, ...shown.map(line)]),
  ]
}

function way({ milestones, missing }: ExplanationView): string[] {
  let before: number | undefined
  return milestones.flatMap(({ name, words, at }) => {
    const isMissing = name === missing?.name
    if (at === undefined) return isMissing ? [styleText('red', `  ✗ ${words}: not seen`)] : []
    const took = before === undefined ? '' : `, after ${duration((Date.parse(at) - before) / 1000)}`
    before = Date.parse(at)
    return [`  ✓ ${words} (${moment(at)}${took})`]
  })
}

function causeLines(cause: ExplanationView['causes'][number], number: number): string[] {
  return [
    `${number}. ${styleText('bold', plain(cause.title))} [${cause.cause}, ${cause.likelihood}]`,
    ...(cause.detail === undefined ? [] : [`   ${plain(cause.detail)}`]),
    ...cause.check.map((what) => `   check: ${plain(what)}`),
    ...cause.evidence.map((event) => `   seen:  ${line(event).trim()}`),
    ...cause.lines.map((one) => `   said:  ${plain(one)}`),
  ]
}

function line({ at, source, kind, text }: EventView): string {
  return `  ${moment(at)}  ${source.padEnd(8)} ${kind.padEnd(16)} ${plain(text)}`
}
