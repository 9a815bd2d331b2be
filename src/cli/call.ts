// `hades call`: any operation of the contract by its name, for scripts and for what has no command of its own.
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { controlPort } from '../contract/control.ts'
import { powerPort } from '../contract/power.ts'
import { Failure } from '../model/failure.ts'
import type { OpenSession } from './session.ts'

/** The operations of one port as a table by name: what the typed client is, seen without its types. */
type AnyClient = Readonly<Record<string, ((input: never) => Promise<unknown>) | undefined>>

export function addCallCommand(program: Command, open: OpenSession): void {
  const names = [controlPort, powerPort].flatMap((port) =>
    Object.entries(port.operations).map(([name, { summary }]) => `  ${port.name}.${name}\n      ${summary}`),
  )
  program
    .command('call <operation> [input]')
    .description('calls an operation with its input as JSON (- is standard input) and prints the answer as JSON')
    .addHelpText('after', `\nOperations:\n${names.join('\n')}`)
    .action(async (operation: string, input: string | undefined, _options, command: Command) => {
      const session = open(command)
      const [port = '', name = ''] = operation.split('.')
      const clients: Readonly<Record<string, AnyClient>> = { control: session.control, power: session.power }
      const call = clients[port]?.[name]
      if (!call) throw new Failure('unknown-operation', `there is no operation ${operation}`, { at: 'operation' })
      session.print(JSON.stringify(await call(parse(input) as never), undefined, 2))
    })
}

function parse(input: string | undefined): unknown {
  const text = input === '-' ? readFileSync(0, 'utf8') : (input ?? '{}')
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Failure('bad-input', 'the input is not JSON', { cause, at: 'input' })
  }
}
