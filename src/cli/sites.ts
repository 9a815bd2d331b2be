// `hades site`: where hosts stand, and how much may cross the border of such a place.
import type { Command } from 'commander'
import { allPages } from '../client/pages.ts'
import type { SiteView } from '../contract/swarm-types.ts'
import { type LimitOptions, limitsInput, withLimits } from './options.ts'
import { size } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

export function addSiteCommands(program: Command, open: OpenSession): void {
  const site = program.command('site').description('sites: where hosts stand, with limits of what goes in and out')
  site
    .command('list')
    .description('sites that hosts stand in or that have limits')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listSites, 'sites', {}), ({ sites }) =>
        tableOr(
          'no sites yet: say where hosts stand with `hades host change --site`',
          ['site', 'hosts', 'egress', 'ingress'],
          sites.map((one) => [one.name, one.hosts, cap(one.egressBytesPerSecond), cap(one.ingressBytesPerSecond)]),
        ),
      )
    })
  withLimits(
    site.command('set <name>').description('sets the limits of a site; what is not given is not limited'),
    'all that leaves the site, such as 100M',
    'all that comes into the site',
  ).action(async (name: string, options: LimitOptions, command: Command) => {
    const { control, show } = open(command)
    show((await control.setSite({ name, ...limitsInput(options) })).site, sentence)
  })
}

function cap(bytesPerSecond: number | undefined): string {
  return bytesPerSecond === undefined ? 'any' : `${size(bytesPerSecond)}/s`
}

function sentence({ name, egressBytesPerSecond, ingressBytesPerSecond }: SiteView): string {
  return `site ${name}: out ${cap(egressBytesPerSecond)}, in ${cap(ingressBytesPerSecond)}`
}
