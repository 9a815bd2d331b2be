// `hades setup`: the documents that say what a machine becomes.
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { Failure } from '../model/failure.ts'
import { setupSchema } from '../model/setup-schema.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

function readDocument(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (cause) {
    throw new Failure('bad-input', `the file ${file} cannot be read`, { cause, at: 'file' })
  }
}

export function addSetupCommands(program: Command, open: OpenSession): void {
  const setup = program.command('setup').description('setups: what a machine is brought to')
  setup
    .command('put <file>')
    .description('stores a setup document (XML; - is standard input) as the next version of its name')
    .action(async (file: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(
        await control.putSetup({ xml: readDocument(file) }),
        (result) => `stored ${result.setup.name}:${result.setup.version}`,
      )
    })
  setup
    .command('validate <file>')
    .description('checks a setup document and stores nothing')
    .action(async (file: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.validateSetup({ xml: readDocument(file) }), (result) => `${result.name} is valid`)
    })
  setup
    .command('show <name[:version]>')
    .description('prints the document')
    .action(async (reference: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getSetup({ reference }), ({ xml }) => xml.trimEnd())
    })
  setup
    .command('list')
    .description('setups, each in its newest version')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await control.listSetups({}), ({ setups }) =>
        tableOr(
          'no setups yet: put one with `hades setup put`',
          ['setup', 'images', 'stored'],
          setups.map((one) => [`${one.name}:${one.version}`, one.images.join(', '), moment(one.createdAt)]),
        ),
      )
    })
  setup
    .command('schema')
    .description('prints the XML Schema that documents are checked against')
    .action(() => {
      process.stdout.write(setupSchema)
    })
}
