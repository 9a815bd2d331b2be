// `hades discovered`: machines that asked for something and that nobody has made known.
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import { type DiscoveredState, type DiscoveryPolicy, discoveredStates, discoveryPolicies } from '../model/discovery.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

type ApproveOptions = {
  readonly ip?: string
  readonly site?: string
  readonly rack?: string
  readonly setup?: string
}

export function addDiscoveryCommands(program: Command, open: OpenSession): void {
  const discovered = program
    .command('discovered')
    .description('machines that were seen on the network and are no host: list, approve, ignore')
  discovered
    .command('list')
    .description('the machines, the one seen last first')
    .addOption(new Option('--state <state>', 'only those that wait, or that are ignored').choices(discoveredStates))
    .action(async (options: { state?: DiscoveredState }, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listDiscovered, 'machines', options), ({ machines }) =>
        tableOr(
          'no such machine was seen',
          ['mac', 'state', 'first seen', 'last seen', 'times', 'by', 'said'],
          machines.map((one) => [
            one.mac,
            one.state,
            moment(one.firstSeenAt),
            moment(one.lastSeenAt),
            one.sightings,
            one.source,
            one.said,
          ]),
        ),
      )
    })
  discovered
    .command('approve <mac> <name>')
    .description('makes the machine a host; say how its power is switched with `host change`')
    .option('--ip <ip>', 'the address that it is to have')
    .option('--site <site>', 'where it stands')
    .option('--rack <rack>', 'in which rack')
    .option('--setup <setup>', 'the setup that it gets when `deploy` names none')
    .action(async (mac: string, name: string, options: ApproveOptions, command: Command) => {
      const { control, show } = open(command)
      show(await control.approveDiscovered({ mac, name, ...options }), () => `${mac} is host ${name} now`)
    })
  discovered
    .command('ignore <mac>')
    .description('says that the machine is not to become a host')
    .option('--undo', 'takes that back')
    .action(async (mac: string, { undo }: { undo?: true }, command: Command) => {
      const { control, show } = open(command)
      const result = await control.ignoreDiscovered({ mac, ignore: undo !== true })
      show(result, ({ machine }) => `${machine.mac} is ${machine.state}`)
    })
  discovered
    .command('policy')
    .description('what such machines are told when their loader asks: nothing (ignore), or to boot their disk (local)')
    .addOption(new Option('--set <policy>', 'from now on').choices(discoveryPolicies))
    .action(async ({ set }: { set?: DiscoveryPolicy }, command: Command) => {
      const { control, show } = open(command)
      const result =
        set === undefined ? await control.listDiscovered({ limit: 1 }) : await control.setDiscovery({ policy: set })
      show({ policy: result.policy }, ({ policy }) => policy)
    })
}
