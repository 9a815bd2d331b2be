// `hades events`: the timeline, of one machine or of all.
import type { Command } from 'commander'
import type { EventView } from '../contract/types.ts'
import { moment, plain } from './output.ts'
import type { OpenSession } from './session.ts'

/** How long one request waits for news before it is made anew. */
const waitMs = 20_000

function line(event: EventView): string {
  const where = event.host ?? '-'
  return `${moment(event.at)}  ${where.padEnd(12)} ${event.source.padEnd(8)} ${event.kind.padEnd(16)} ${plain(event.text)}`
}

export function addEventCommands(program: Command, open: OpenSession): void {
  program
    .command('events [nodeset]')
    .description('what happened, oldest first: DHCP, TFTP, HTTP, agent, power and engine on one timeline')
    .option('-f, --follow', 'go on with what happens from now on')
    .option('-n, --last <count>', 'how many of the newest are shown first', '50')
    .option('--deployment <id>', 'of one deployment only')
    .option('--kind <kind...>', 'of these kinds only, such as completed or dhcp.*')
    .action(
      async (
        nodeset: string | undefined,
        options: { follow?: boolean; last: string; deployment?: string; kind?: string[] },
        command: Command,
      ) => {
        const session = open(command)
        const which = {
          ...(nodeset === undefined ? {} : { nodeset }),
          ...(options.kind === undefined ? {} : { kinds: options.kind }),
          ...(options.deployment === undefined ? {} : { deployment: Number(options.deployment) }),
        }
        const write = (events: readonly EventView[]): void => {
          if (session.format === 'json' && !options.follow) session.print(JSON.stringify({ events }, undefined, 2))
          else
            for (const event of events) session.print(session.format === 'json' ? JSON.stringify(event) : line(event))
        }
        const first = await session.control.listEvents({ ...which, newest: true, limit: Number(options.last) })
        write(first.events)
        let after = first.events.at(-1)?.id ?? 0
        while (options.follow) {
          const { events } = await session.control.listEvents({ ...which, after, waitMs })
          if (events.length > 0) write(events)
          after = events.at(-1)?.id ?? after
        }
      },
    )
}
