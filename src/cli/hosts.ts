// `hades host`: what HaDeS knows of the machines.
import { readFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import type { HostView } from '../contract/types.ts'
import { type DeploymentState, deploymentStates } from '../model/deployment.ts'
import { Failure } from '../model/failure.ts'
import { type HostSort, hostSorts, loaders } from '../model/host.ts'
import { addHostFileCommands } from './host-files.ts'
import { inventoryLines } from './inventory-lines.ts'
import { plain, size } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

type HostOptions = {
  readonly mac?: string[]
  readonly power?: string
  readonly powerUser?: string
  readonly powerPasswordFile?: string
  readonly powerOption?: string[]
  readonly site?: string
  readonly rack?: string
  readonly loader?: (typeof loaders)[number]
  readonly setup?: string
  readonly protect?: string
}

type ListOptions = {
  readonly site?: string
  readonly rack?: string
  readonly withSetup?: string
  readonly mac?: string
  readonly state?: DeploymentState
  readonly sort: HostSort
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

function withHostOptions(command: Command): Command {
  return command
    .option('--mac <mac[=ip]>', 'a network interface, with the address it is to have; again for more', collect)
    .option('--power <driver[:address]>', 'how its power is switched: ipmi:10.0.0.7, manual')
    .option('--power-user <name>', 'user of the controller')
    .option('--power-password-file <file>', 'file with the password of the controller; - is standard input')
    .option('--power-option <name=value>', 'an option of the driver, such as efi=true; again for more', collect)
    .option('--site <site>', 'where it stands')
    .option('--rack <rack>', 'in which rack')
    .addOption(new Option('--loader <loader>', 'which boot loader its firmware is given').choices(loaders))
    .option('--setup <setup>', 'the setup that it gets when `deploy` names none')
    .option('--protect <reason>', 'no rollout or erasure takes it unless it is named as meant; "" ends that')
}

export function addHostCommands(program: Command, open: OpenSession): void {
  const host = program.command('host').description('machines: add, change, list, remove')
  withHostOptions(host.command('add <name>').description('makes a machine known')).action(
    async (name: string, options: HostOptions, command: Command) => {
      const { control, show } = open(command)
      const given = hostInput(options)
      const input = { name, ...given, interfaces: given.interfaces ?? [], powerMethods: given.powerMethods ?? [] }
      show(await control.addHost(input), () => `host ${name} was added`)
    },
  )
  withHostOptions(
    host.command('change <name>').description('changes what is given; lists replace the old ones'),
  ).action(async (name: string, options: HostOptions, command: Command) => {
    const { control, show } = open(command)
    show(await control.changeHost({ name, ...hostInput(options) }), () => `host ${name} was changed`)
  })
  addHostFileCommands(host, open)
  host
    .command('remove <name>')
    .description('forgets a machine that no deployment is working on')
    .action(async (name: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.removeHost({ name }), () => `host ${name} was removed`)
    })
  host
    .command('list [nodeset]')
    .description('machines, all or those of a nodeset such as n[01-72],!n13')
    .option('--site <site>', 'only those that stand there')
    .option('--rack <rack>', 'only those in this rack')
    .option('--with-setup <setup>', 'only those of this setup')
    .option('--mac <mac>', 'only the one with this interface')
    .addOption(new Option('--state <state>', 'only those whose newest deployment is there').choices(deploymentStates))
    .addOption(new Option('--sort <order>', 'in which order').choices(hostSorts).default('name'))
    .action(async (nodeset: string | undefined, { withSetup, ...filter }: ListOptions, command: Command) => {
      const { control, show } = open(command)
      const input = {
        ...filter,
        ...(nodeset === undefined ? {} : { nodeset }),
        ...(withSetup === undefined ? {} : { setup: withSetup }),
      }
      show(await allPages(control.listHosts, 'hosts', input), ({ hosts }) =>
        tableOr(
          'no hosts yet: add one with `hades host add`',
          ['host', 'mac', 'ip', 'power', 'boots', 'deployment'],
          hosts.map(row),
        ),
      )
    })
  host
    .command('show <name>')
    .description('one machine with all that is known of it')
    .action(async (name: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getHost({ name }), (result) => details(result.host))
    })
}

function hostInput(options: HostOptions) {
  const { mac, power, site, rack, loader, setup, protect } = options
  return {
    ...(site === undefined ? {} : { site }),
    ...(rack === undefined ? {} : { rack }),
    ...(loader === undefined ? {} : { loader }),
    ...(setup === undefined ? {} : { setup }),
    ...(protect === undefined ? {} : { protected: protect }),
    ...(mac === undefined ? {} : { interfaces: mac.map(interfaceInput) }),
    ...(power === undefined ? {} : { powerMethods: [powerInput(power, options)] }),
  }
}

function interfaceInput(text: string): { mac: string; ip?: string } {
  const [mac = '', ip] = text.split('=')
  return ip === undefined ? { mac } : { mac, ip }
}

function powerInput(power: string, options: HostOptions) {
  const colon = power.indexOf(':')
  const address = colon < 0 ? undefined : power.slice(colon + 1)
  const file = options.powerPasswordFile
  return {
    driver: colon < 0 ? power : power.slice(0, colon),
    ...(address === undefined ? {} : { address }),
    ...(options.powerUser === undefined ? {} : { username: options.powerUser }),
    ...(file === undefined ? {} : { password: readPassword(file) }),
    options: (options.powerOption ?? []).map((text) => {
      const equals = text.indexOf('=')
      if (equals < 1) throw new Failure('bad-input', `\`${text}\` is not name=value`, { at: '--power-option' })
      return { name: text.slice(0, equals), value: text.slice(equals + 1) }
    }),
  }
}

function readPassword(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8').replace(/\r?\n$/, '')
  } catch (cause) {
    throw new Failure('bad-input', `the password file ${file} cannot be read`, { cause, at: '--power-password-file' })
  }
}

function row(host: HostView): (string | undefined)[] {
  const [first] = host.interfaces
  const more = host.interfaces.length > 1 ? ` +${host.interfaces.length - 1}` : ''
  const [power] = host.powerMethods
  return [
    host.name,
    first && first.mac + more,
    first?.ip,
    power && [power.driver, power.address].filter(Boolean).join(':'),
    host.bootTarget,
    host.deploymentState,
  ]
}

function details(host: HostView): string {
  const { inventory } = host
  const lines = [
    `host        ${host.name}`,
    ...(host.site || host.rack ? [`stands      ${[host.site, host.rack].filter(Boolean).join(', rack ')}`] : []),
    ...host.interfaces.map((one) => `interface   ${one.mac}  ${one.ip ?? 'no address'}`),
    ...host.powerMethods.map(
      (one) => `power       ${[one.driver, one.address, one.username].filter(Boolean).join(' ')}`,
    ),
    `boots       ${host.bootTarget} (by default ${host.defaultTarget}), loader ${host.loader}`,
    ...(host.protected ? [`protected   ${host.protected}`] : []),
    ...(host.setup ? [`setup       ${host.setup}`] : []),
    ...(host.approvedDisks ?? []).map(({ name, sizeBytes, ...names }) => {
      const identity = [names.model, names.serial && `serial ${names.serial}`, names.wwn && `wwn ${names.wwn}`]
      return `proven      ${name}  ${size(sizeBytes)}  ${identity.filter(Boolean).join(', ')}`
    }),
    ...(host.deployment ? [`deployment  ${host.deployment}: ${host.deploymentState}`] : []),
  ]
  if (inventory && host.inventoryAt) lines.push(...inventoryLines(inventory, host.inventoryAt))
  return lines.map(plain).join('\n')
}
