// `hades host import` and `export`: many machines at once, by a file.
import { readFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import { failureMeanings } from '../contract/failures.ts'
import { Failure } from '../model/failure.ts'
import { type HostFileFormat, hostFileFormats, writeHostFile } from '../model/host-file.ts'
import { plain, table } from './output.ts'
import type { OpenSession } from './session.ts'

type FileOptions = { readonly format?: HostFileFormat; readonly dryRun?: true }

/** Adds the commands to `hades host`. */
export function addHostFileCommands(host: Command, open: OpenSession): void {
  host
    .command('import <file>')
    .description('adds and changes the machines of a YAML or CSV file, all of them or none; - is standard input')
    .addOption(new Option('--format <format>', "by the file's name unless given").choices(hostFileFormats))
    .option('--dry-run', 'only show what would become of each machine, and which lines are wrong')
    .action(async (file: string, { format, dryRun }: FileOptions, command: Command) => {
      const { control, show } = open(command)
      const input = { format: format ?? formatOf(file), text: read(file), ...(dryRun ? { dryRun } : {}) }
      const result = await control.importHosts(input, { deadlineMs: 600_000 })
      show(result, ({ hosts, problems }) => {
        const changed = hosts.filter(({ action }) => action !== 'none')
        const count = (what: string) => hosts.filter(({ action }) => action === what).length
        const counts = `${count('add')} added, ${count('change')} changed, ${count('none')} as they were`
        return [
          ...(dryRun && changed.length > 0
            ? [
                table(
                  ['line', 'host', 'is', 'what'],
                  changed.map(({ line, name, action, changes }) => [
                    line,
                    name,
                    action === 'add' ? 'added' : 'changed',
                    changes.join(', '),
                  ]),
                ),
              ]
            : []),
          ...problems.map(({ line, text }) => `line ${line}: ${plain(text)}`),
          dryRun ? `it would be: ${counts}; ${problems.length} lines are wrong` : counts,
        ].join('\n')
      })
      if (result.problems.length > 0) process.exitCode = failureMeanings['bad-input'].exit
    })
  host
    .command('export [nodeset]')
    .description('prints machines as `host import` takes them; passwords of controllers are not known and left out')
    .addOption(new Option('--format <format>', 'of what is printed').choices(hostFileFormats).default('yaml'))
    .action(async (nodeset: string | undefined, { format = 'yaml' }: FileOptions, command: Command) => {
      const { control, print } = open(command)
      const { hosts } = await allPages(control.listHosts, 'hosts', nodeset === undefined ? {} : { nodeset })
      print(writeHostFile(format, hosts).trimEnd())
    })
}

function formatOf(file: string): HostFileFormat {
  if (/\.ya?ml$/i.test(file)) return 'yaml'
  if (/\.csv$/i.test(file)) return 'csv'
  throw new Failure('bad-input', `${file} does not say what it is: give --format`, { at: '--format' })
}

function read(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (cause) {
    throw new Failure('bad-input', `the file ${file} cannot be read`, { cause, at: 'file' })
  }
}
