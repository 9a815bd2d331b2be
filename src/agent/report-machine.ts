// What the agent does on a machine that nobody has made known: it looks, tells the service what it found, and is done. It
// asks for no work and writes to no disk; docs/hosts.md.
import { randomUUID } from 'node:crypto'
import { causeChain } from '../model/failure.ts'
import type { Agent, Outcome } from './agent.ts'
import type { ReportArguments } from './arguments.ts'
import { untilAnswered } from './report.ts'

/** With the pauses between them, at least a quarter of an hour and at most half of one in which a service may be away. */
const triesMax = 60

export type Reporting = Pick<Agent, 'version' | 'connect' | 'look' | 'log' | 'reportLimits'> & {
  readonly arguments: ReportArguments
}

/** However the report went, the machine is to be switched off: it must neither wait for ever nor start again and again. */
export async function reportMachine(reporting: Reporting, signal: AbortSignal): Promise<Outcome> {
  const { arguments: given, version, log, reportLimits: limits } = reporting
  log.hide(given.token)
  log.line(`agent ${version} of the machine ${given.mac}, which is no host, service ${given.service}`)
  const { inventory, problem } = await reporting.look(signal)
  // Half an inventory would say that there is no disk.
  if (problem !== undefined) return ends("nothing is reported: the machine's disks could not be listed", problem)
  const input = { mac: given.mac, agent: randomUUID(), agentVersion: version, inventory }
  const client = reporting.connect(given.token)
  const call = (signal: AbortSignal) => client.reportDiscovered(input, { signal })
  try {
    await untilAnswered('reportDiscovered', call, { log, limits, signal, tries: triesMax })
    return { kind: 'finished', action: 'poweroff' }
  } catch (error) {
    signal.throwIfAborted()
    return ends('the service does not take the report', error)
  }
}

function ends(what: string, why: unknown): Outcome {
  return { kind: 'finished', action: 'poweroff', failed: [what, ...causeChain(why)] }
}
