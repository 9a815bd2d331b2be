// `hades status`: one look at the whole.
import type { Command } from 'commander'
import { moment, size } from './output.ts'
import type { OpenSession } from './session.ts'

export function addStatusCommand(program: Command, open: OpenSession): void {
  program
    .command('status')
    .description('what runs, since when, and how many hosts, images and deployments there are')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getStatus({}), (status) =>
        [
          `HaDeS ${status.version}, up since ${moment(status.startedAt)}`,
          `${status.hosts} hosts, ${status.images} images, ${status.setups} setups; ${size(status.freeBytes)} free in the library`,
          `deployments: ${status.states.map(({ state, count }) => `${count} ${state}`).join(', ') || 'none yet'}`,
          ...status.services.map(({ name, listens }) => `  ${name.padEnd(8)} ${listens}`),
        ].join('\n'),
      )
    })
}
