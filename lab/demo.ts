// `make demo`: a Debian image on one BIOS and one UEFI machine, from power-on to the SSH banner of the new systems.
// KEEP=1 leaves everything running and says how to look at it.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../src/lib/until.ts'
import { addLabHosts, type Cluster, eventsOf, greet, openCluster } from './cluster.ts'
import { readLabConfig } from './config.ts'
import { phasesOf, phaseTable } from './timeline.ts'

const root = join(import.meta.dirname, '..')
const folder = join(root, 'build', 'demo')
const osImage = join(root, 'build', 'os-image', 'current')

/** A busy origin's share for this cluster: what the machines do not get from each other takes its time. */
const originRate = '4M'

/** Systems that were observed have their SSH server up; its keys are made in the background at first boot. */
const sshMs = 120_000

const say = (text: string): void => console.log(`\n▌ ${text}`)

async function run(cluster: Cluster, ...args: string[]): Promise<void> {
  console.log(`$ hades ${args.join(' ')}`)
  const code = await cluster.hades(...args)
  if (code !== 0) throw new Error(`hades ${args[0]} ended with ${code}; the service's log is ${cluster.logFile}`)
}

async function demo(cluster: Cluster): Promise<void> {
  const { lab } = cluster
  say('two virtual machines, one with BIOS and one with UEFI, each behind a controller that speaks IPMI')
  for (const machine of lab.machines)
    console.log(`${machine.name}  ${machine.firmware}  ${machine.mac}  BMC ${machine.bmcAddress}`)
  await addLabHosts(cluster, (await readFile(lab.bmc.passwordFile, 'utf8')).trim())
  await run(cluster, 'host', 'list')

  say('the image is imported once: independent frames, each with its SHA-256')
  await run(cluster, 'image', 'publish', join(osImage, 'debian.raw'), '--name', 'debian:12')
  await run(cluster, 'setup', 'put', join(root, 'examples', 'debian.xml'))

  say(
    `both machines at once: power, network boot, scout, image, proof, reboot, new system; the origin sends ${originRate}B/s`,
  )
  await run(cluster, 'deploy', lab.machines.map(({ name }) => name).join(','), '--setup', 'debian')

  say('how the image spread: what came from the origin, what from each other')
  await run(cluster, 'swarm')

  say('the new systems answer')
  for (const machine of lab.machines) {
    const answer = await until(machine.name, () => greet(cluster, machine.address, join(osImage, 'id_ed25519')), {
      timeoutMs: sshMs,
      everyMs: 1000,
    })
    console.log(`${machine.name}  ${answer.banner}  host name: ${answer.hostName}`)
    if (answer.hostName !== machine.name) throw new Error(`${machine.name} calls itself ${answer.hostName}`)
  }

  say('where the seconds went')
  const [rollout] = (await cluster.control.listRollouts({})).rollouts
  const columns = []
  for (const deployment of rollout?.deployments ?? []) {
    columns.push({ name: deployment.host, phases: phasesOf(deployment, await eventsOf(cluster, deployment.id)) })
  }
  for (const line of phaseTable(columns)) console.log(line)
}

async function main(): Promise<void> {
  const config = readLabConfig(await readFile(join(root, 'lab', 'demo.yaml'), 'utf8'))
  const cluster = await openCluster(config, folder, { address: '10.77.0.1', upArgs: ['--origin-rate', originRate] })
  const keep = process.env.KEEP === '1'
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void cluster.close().finally(() => process.exit(130)))
  }
  try {
    await demo(cluster)
  } finally {
    if (!keep) await cluster.close()
  }
  if (keep) {
    const data = `--data ${cluster.dataFolder}`
    say('everything goes on running. To look at it:')
    console.log(`bin/hades ${data} status`)
    console.log(`bin/hades ${data} events -f`)
    console.log(`bin/hades lab --folder ${cluster.lab.folder} console n01`)
    console.log(`bin/hades ${data} deploy n01 --setup debian`)
    console.log(`to end it: bin/hades lab --folder ${cluster.lab.folder} down`)
    // The service is a child that outlives us, inside the lab's network; taking the lab down ends it too.
    process.exit(0)
  }
  say('done: the service has ended and the lab is gone')
}

await main()
