// The commands that start services. What a command does not need is not loaded.
import { join } from 'node:path'
import type { Command } from 'commander'
import { execa } from 'execa'
import { readConfig } from './config.ts'
import { addConfigCommands, addSettings, sourcesOf } from './config-cli.ts'
import { addDatabaseCommands } from './database-commands.ts'

const root = join(import.meta.dirname, '..', '..')

/** Adds `up` and the like to the program. */
export function addServices(program: Command): void {
  addSettings(program.command('up').alias('server'))
    .description('starts all services in this process; makes the data folder at first start')
    .action(async (_options, command: Command) => {
      const { config } = await readConfig(sourcesOf(command))
      const { runHadesd } = await import('./hadesd.ts')
      await runHadesd(config)
    })
  addConfigCommands(program)
  addDatabaseCommands(program)
  program
    .command('lab')
    .description('virtual machines with firmware, disks and controllers in a network of their own')
    .helpOption(false)
    .allowUnknownOption()
    .argument('[args...]')
    .action(async (args: string[]) => {
      // A program of its own: its machines and its user are on this computer, whatever service is talked to.
      const lab = await execa(process.execPath, [join(root, 'lab', 'lab.ts'), ...args], {
        stdio: 'inherit',
        reject: false,
      })
      process.exitCode = lab.exitCode ?? 1
    })
}
