// `hades setup`: the documents that say what a machine becomes.
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { allPages } from '../client/pages.ts'
import type { SetupChangeView } from '../contract/setup-types.ts'
import { Failure } from '../model/failure.ts'
import { setupSchema } from '../model/setup-schema.ts'
import { moment, plain } from './output.ts'
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
    .command('get <name[:version]>')
    .alias('show')
    .description('prints the document')
    .action(async (reference: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getSetup({ reference }), ({ xml }) => xml.trimEnd())
    })
  setup
    .command('list [name]')
    .description('setups, each in its newest version; of one name all versions')
    .option('--versions', 'all versions of all setups')
    .action(async (name: string | undefined, options: { versions?: boolean }, command: Command) => {
      const { control, show } = open(command)
      const versions = options.versions === true || name !== undefined
      const input = { ...(name === undefined ? {} : { name }), ...(versions ? { versions } : {}) }
      show(await allPages(control.listSetups, 'setups', input), ({ setups }) =>
        tableOr(
          'no setups yet: put one with `hades setup put`',
          ['setup', 'images', 'stored'],
          setups.map((one) => [`${one.name}:${one.version}`, one.images.join(', '), moment(one.createdAt)]),
        ),
      )
    })
  setup
    .command('diff <name[:version]> <other>')
    .description('what differs in meaning from a stored setup to another one, or to a file (with a / or .xml; - too)')
    .option('--text', 'the difference of the documents instead, line by line in the unified format')
    .action(async (from: string, other: string, options: { text?: boolean }, command: Command) => {
      const { control, show } = open(command)
      const isFile = other === '-' || other.includes('/') || other.endsWith('.xml')
      const input = { from, ...(isFile ? { xml: readDocument(other) } : { to: other }) }
      const withText = options.text === true
      show(await control.diffSetups({ ...input, ...(withText ? { withText } : {}) }), (result) =>
        withText ? (result.text ?? '').trimEnd() : changesInWords(result),
      )
    })
  setup
    .command('schema')
    .description('prints the XML Schema that documents are checked against')
    .action(() => {
      process.stdout.write(setupSchema)
    })
}

type Difference = { readonly from: string; readonly to: string; readonly changes: readonly SetupChangeView[] }

const marks = { added: '+', removed: '-', changed: '~' } as const

/** A line for each change: what it is of, and its value before and after. */
export function changesInWords({ from, to, changes }: Difference): string {
  if (changes.length === 0) return `${from} and ${to} bring about the same`
  const width = Math.max(...changes.map(({ subject, what }) => `${subject} ${what}`.length))
  return changes
    .map(({ kind, subject, what, ...value }) => {
      const name = `${subject} ${what}`.padEnd(width)
      const words = kind === 'changed' ? `${value.from} -> ${value.to}` : (value.to ?? value.from ?? '')
      return plain(`${marks[kind]} ${name}  ${words}`)
    })
    .join('\n')
}
