// `hades discovered`: machines that asked for something and that nobody has made known.
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import type { discoveryOperations } from '../contract/discovery.ts'
import type { Output } from '../contract/operation.ts'
import { type DiscoveredState, type DiscoveryPolicy, discoveredStates, discoveryPolicies } from '../model/discovery.ts'
import { inventoryLines } from './inventory-lines.ts'
import { moment, plain } from './output.ts'
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
    .description('machines that were seen on the network and are no host: list, show, approve, ignore, forget')
  discovered
    .command('list')
    .description('the machines, the one seen last first')
    .addOption(new Option('--state <state>', 'only those that wait, or that are ignored').choices(discoveredStates))
    .action(async (options: { state?: DiscoveredState }, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listDiscovered, 'machines', options), ({ machines }) =>
        tableOr(
          'no such machine was seen',
          ['mac', 'state', 'first seen', 'last seen', 'times', 'by', 'found or said'],
          machines.map((one) => [
            one.mac,
            one.state,
            moment(one.firstSeenAt),
            moment(one.lastSeenAt),
            one.sightings,
            one.source,
            one.found ?? one.said,
          ]),
        ),
      )
    })
  discovered
    .command('show <mac>')
    .description('one machine with the inventory that it reported from the scout')
    .action(async (mac: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getDiscovered({ mac }), sayMachine)
    })
  addDecisions(discovered, open)
}

/** What an administrator does about them. */
function addDecisions(discovered: Command, open: OpenSession): void {
  discovered
    .command('approve <mac> <name>')
    .description(
      'makes the machine a host, with the interfaces that it reported; say how its power is switched with `host change`',
    )
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
    .command('forget <mac>')
    .description('forgets the machine and what it reported: when it boots again, it is new')
    .action(async (mac: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.forgetDiscovered({ mac }), () => `${mac} is forgotten`)
    })
  discovered
    .command('policy')
    .description(
      'what such machines are told when their loader asks: nothing (ignore), to boot their disk (local), or once the scout, ' +
        'to report what they are (scout)',
    )
    .addOption(new Option('--set <policy>', 'from now on').choices(discoveryPolicies))
    .action(async ({ set }: { set?: DiscoveryPolicy }, command: Command) => {
      const { control, show } = open(command)
      const result =
        set === undefined ? await control.listDiscovered({ limit: 1 }) : await control.setDiscovery({ policy: set })
      show({ policy: result.policy }, ({ policy }) => policy)
    })
}

function sayMachine({ machine, inventory }: Output<(typeof discoveryOperations)['getDiscovered']>): string {
  const { mac, state, sightings, source, said, address, firstSeenAt, lastSeenAt, reportedAt } = machine
  const lines = [
    `MAC         ${mac}, ${state}`,
    ...(address === undefined ? [] : [`address     ${address}, from the pool`]),
    `asked       ${sightings} times from ${moment(firstSeenAt)} to ${moment(lastSeenAt)}, last by ${source}: ${said}`,
    ...(inventory && reportedAt ? inventoryLines(inventory, reportedAt) : ['reported    nothing']),
  ]
  return lines.map(plain).join('\n')
}
