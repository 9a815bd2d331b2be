// `hades power`: switches machines. Exits unwell when any of them could not be switched.
import { Argument, type Command } from 'commander'
import { failureMeanings } from '../contract/failures.ts'
import type { PowerOutcome } from '../contract/types.ts'
import { type BootDevice, bootDevices, powerActions } from '../model/power.ts'
import { type OpenSession, tableOr } from './session.ts'

function text({ outcomes }: { readonly outcomes: readonly PowerOutcome[] }): string {
  return tableOr(
    'no hosts yet',
    ['host', 'driver', 'power', 'confirmed', 'failure'],
    outcomes.map((one) => [
      one.host,
      one.driver,
      one.state,
      one.confirmed ? 'yes' : 'no',
      one.failure?.message.join(': '),
    ]),
  )
}

/** The exit code of the first outcome that failed, else 0. */
function exitOf(outcomes: readonly PowerOutcome[]): number {
  const failed = outcomes.find((one) => one.failure)
  return failed?.failure ? failureMeanings[failed.failure.code].exit : 0
}

export function addPowerCommands(program: Command, open: OpenSession): void {
  const power = program.command('power').description('power of machines: status, on, off, cycle, reset')
  power
    .command('status <nodeset>')
    .description('asks the controllers now')
    .action(async (nodeset: string, _options, command: Command) => {
      const session = open(command)
      const result = await session.power.getPower({ nodeset })
      session.show(result, text)
      process.exitCode = exitOf(result.outcomes)
    })
  for (const action of powerActions) {
    const one = power
      .command(`${action} <nodeset>`)
      .description(action === 'cycle' ? 'switches off, then on' : `switches ${action}, and reads the state back`)
      .option('--method <number>', "which of the hosts' power methods, from 1", Number)
    if (action === 'cycle') one.option('--off-seconds <seconds>', 'how long the machines stay off', Number)
    one.action(async (nodeset: string, options: { method?: number; offSeconds?: number }, command: Command) => {
      const session = open(command)
      const result = await session.power.setPower({ nodeset, action, ...options })
      session.show(result, text)
      process.exitCode = exitOf(result.outcomes)
    })
  }
  power
    .command('device <nodeset>')
    .description('what the machines try first at their next power-on, once')
    .addArgument(new Argument('<device>').choices(bootDevices))
    .action(async (nodeset: string, device: BootDevice, _options, command: Command) => {
      const session = open(command)
      const result = await session.power.setBootDevice({ nodeset, device })
      session.show(result, text)
      process.exitCode = exitOf(result.outcomes)
    })
  power
    .command('test <host>')
    .description('tries to reach the controller, log in and read the state')
    .action(async (host: string, _options, command: Command) => {
      const session = open(command)
      const result = await session.power.testPower({ host })
      session.show(result, ({ outcome }) => text({ outcomes: [outcome] }))
      process.exitCode = exitOf([result.outcome])
    })
  power
    .command('drivers')
    .description('the power drivers there are')
    .action(async (_options, command: Command) => {
      const session = open(command)
      session.show(await session.power.listPowerDrivers({}), ({ drivers }) => drivers.join('\n'))
    })
}
