// `hades script`: the library of scripts that setups name.
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { allPages } from '../client/pages.ts'
import { Failure } from '../model/failure.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

export function addScriptCommands(program: Command, open: OpenSession): void {
  const script = program.command('script').description('scripts that setups run after the images, kept in versions')
  script
    .command('put <name> <file>')
    .description('stores a script (- is standard input) as the next version of its name')
    .action(async (name: string, file: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.putScript({ name, text: readScript(file) }), (result) => {
        return `stored ${result.script.name}:${result.script.version}`
      })
    })
  script
    .command('show <name[:version]>')
    .alias('get')
    .description('prints the script')
    .action(async (reference: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getScript({ reference }), ({ text }) => text.trimEnd())
    })
  script
    .command('list [name]')
    .description('scripts, each in its newest version; of one name all versions')
    .action(async (name: string | undefined, _options, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listScripts, 'scripts', name === undefined ? {} : { name }), ({ scripts }) =>
        tableOr(
          'no scripts yet: put one with `hades script put`',
          ['script', 'characters', 'sha256', 'stored'],
          scripts.map((one) => [
            `${one.name}:${one.version}`,
            one.characters,
            one.sha256.slice(0, 12),
            moment(one.createdAt),
          ]),
        ),
      )
    })
  script
    .command('remove <name[:version]>')
    .description('removes one version of a script, or all, when nothing uses it')
    .action(async (reference: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.removeScript({ reference }), () => `script ${reference} was removed`)
    })
}

function readScript(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (cause) {
    throw new Failure('bad-input', `the file ${file} cannot be read`, { cause, at: 'file' })
  }
}
