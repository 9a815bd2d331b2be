// `hades preflight`: what to mend before the first machine is switched on.
import { styleText } from 'node:util'
import type { Command } from 'commander'
import type { PreflightView } from '../contract/preflight-types.ts'
import { plain } from './output.ts'
import type { OpenSession } from './session.ts'

/** Scripts look at this: something will keep machines from being deployed. */
const failureExit = 1
/** The controllers alone may take a minute. */
const deadlineMs = 180_000

const marks = {
  ok: styleText('green', 'ok      '),
  warning: styleText('yellow', 'warning '),
  failure: styleText('red', 'FAILURE '),
} as const

export function addPreflightCommand(program: Command, open: OpenSession): void {
  program
    .command('preflight [nodeset]')
    .description('checks network, service and controllers (of all hosts, or those named); exit code 1 after a failure')
    .action(async (nodeset: string | undefined, _options, command: Command) => {
      const { control, show } = open(command)
      const result = await control.runPreflight(nodeset === undefined ? {} : { nodeset }, { deadlineMs })
      show(result, text)
      if (result.outcome === 'failure') process.exitCode = failureExit
    })
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

export function text({ checks, outcome }: PreflightView): string {
  const count = (wanted: PreflightView['outcome']): number => checks.filter((check) => check.outcome === wanted).length
  return [
    ...checks.flatMap(({ name, outcome, says, fix }) => [
      `${marks[outcome]} ${plain(name)}: ${plain(says)}`,
      ...(fix === undefined ? [] : [`         ${plain(fix)}`]),
    ]),
    '',
    outcome === 'ok'
      ? 'Ready for the first machine.'
      : `${counted(count('failure'), 'failure')}, ${counted(count('warning'), 'warning')}${outcome === 'warning' ? ': nothing that must keep you from starting' : ''}.`,
  ].join('\n')
}
