// How long a machine takes from its proven disk to the SSH server of its new system, by reboot and by kexec in turn.
//   node bench/finish.ts [--runs 2] [--firmware bios|uefi]
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { addLabHosts, type Cluster, eventsOf, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import { until } from '../src/lib/until.ts'

const root = join(import.meta.dirname, '..')
const deployMs = 900_000

const setupOf = (action: string) => `<?xml version="1.0" encoding="UTF-8"?>
<setup xmlns="urn:hades:setup:1" name="${action}">
  <disk><image>debian:12</image></disk>
  <transfer engine="http" linger="0s"/>
  <finish action="${action}"/>
  <probe><tcp port="22" expect="SSH-2.0"/></probe>
  <deadlines boot="10min" deploy="30min" observe="3min" attempts="3"/>
</setup>`

/**
 * Seconds in the state `rebooting`: from the accepted proof to the answer of the new system. Undefined: the machine came no further
 * until the service switched it, as emulated UEFI sometimes does when the guest resets it or when it asks DHCP; a number of
 * that says nothing of either way.
 */
async function secondsOf(cluster: Cluster, setup: string): Promise<number | undefined> {
  const { control } = cluster
  const { rollout } = await control.startRollout({ nodeset: 'n01', setup })
  const deployment = await until(
    `the end of ${setup}`,
    async () => {
      const now = (await control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now.deployments[0]
    },
    { timeoutMs: deployMs, everyMs: 200 },
  )
  if (deployment.state !== 'done') throw new Error(JSON.stringify(deployment.failure))
  const events = await eventsOf(cluster, deployment.id)
  if (events.some(({ kind }) => kind === 'nudged')) return undefined
  return deployment.states.find(({ step }) => step === 'rebooting')?.seconds ?? Number.NaN
}

async function main(): Promise<void> {
  const options = { runs: { type: 'string', default: '2' }, firmware: { type: 'string', default: 'bios' } } as const
  const { values } = parseArgs({ options })
  const machine = `{ name: n01, firmware: ${values.firmware}, memory: 1024, disks: [2GiB], address: 10.85.0.11, bmc: 10.85.0.101 }`
  const config = readLabConfig(`network: hades-fin\nsubnet: 10.85.0.0/24\nmachines:\n  - ${machine}\n`)
  const folder = await mkdtemp(join(tmpdir(), 'hades-finish-'))
  const cluster = await openCluster(config, folder, { address: '10.85.0.1' })
  try {
    await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
    await publish(cluster, join(root, 'build/os-image/current/debian.raw'), 'debian:12')
    for (const action of ['reboot', 'kexec']) await cluster.control.putSetup({ xml: setupOf(action) })
    for (let run = 1; run <= Number(values.runs); run++) {
      const reboot = await secondsOf(cluster, 'reboot')
      const kexec = await secondsOf(cluster, 'kexec')
      const [before, after] = [reboot, kexec].map((took) => (took === undefined ? 'hung' : `${took.toFixed(1)} s`))
      console.log(`${values.firmware}, run ${run}: reboot ${before}, kexec ${after}`)
    }
  } finally {
    await cluster.close()
    await rm(folder, { recursive: true, force: true })
  }
}

await main()
