// The agent's program: reads what the loader told it, does one pass over this machine, and ends the machine when the
// service has taken the proof. Bundled to one file and started by the scout's process 1, which takes exit status 0 as
// "do not start it again"; anything else is a defect and worth another start.
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import manifest from '../../package.json' with { type: 'json' }
import { runAgent } from '../agent/agent.ts'
import { parseArguments } from '../agent/arguments.ts'
import { endMachine } from '../agent/finish.ts'
import { lookAtMachine } from '../agent/inventory.ts'
import { createLog } from '../agent/log.ts'
import { originLimits } from '../agent/origin.ts'
import { reportLimits } from '../agent/report.ts'
import { reportMachine } from '../agent/report-machine.ts'
import { createClient } from '../client/client.ts'
import { servicePort } from '../contract/service.ts'

const log = createLog((line) => process.stdout.write(`hades-agent: ${line}`))

/** BitTorrent's own port, which switches and firewalls between racks are told by number. */
const peerAddress = { host: '0.0.0.0', port: 6881 }

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      // A file that holds what the kernel's command line holds in the scout.
      arguments: { type: 'string', default: '/proc/cmdline' },
    },
  })
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)))
  }
  const given = parseArguments(await readFile(values.arguments, 'utf8'))
  const connect: Parameters<typeof runAgent>[0]['connect'] = (token) =>
    createClient(servicePort, { kind: 'http', baseUrl: given.service, token, trust: { fingerprint: given.pin } })
  const common = { version: manifest.version, connect, look: lookAtMachine, log, reportLimits }
  const outcome =
    given.purpose === 'report'
      ? await reportMachine({ ...common, arguments: given }, stop.signal)
      : await runAgent({ ...common, arguments: given, peerAddress, originLimits }, stop.signal)
  if (outcome.kind === 'finished') {
    log.line(`${outcome.failed?.join(': ') ?? 'the service has taken what was done'}: ${outcome.action}`)
    if (outcome.action === 'stay') log.line('this machine stays in the scout, as it was told')
    else await endMachine(outcome.action, log)
  } else log.line(`this machine stays in the scout: ${outcome.why.join(': ')}`)
}

try {
  await main()
} catch (error) {
  log.failure('the agent cannot go on', error)
  process.exitCode = 1
}
