// HaDeS in a lab: the service inside the lab's network, the lab's machines made known to it, and its command line at hand.
// The demo and the whole-system tests use it; what they do with it is theirs.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { createClient } from '../src/client/client.ts'
import { controlPort } from '../src/contract/control.ts'
import type { PortClient } from '../src/contract/operation.ts'
import { powerPort } from '../src/contract/power.ts'
import type { EventView } from '../src/contract/types.ts'
import { until } from '../src/lib/until.ts'
import type { LabConfig } from './config.ts'
import { createLab, destroyLab, type Lab, type LabMachine } from './lab.ts'
import { inNamespace } from './network.ts'

const root = join(import.meta.dirname, '..')
const program = join(root, 'bin', 'hades')

export type Cluster = {
  readonly lab: Lab
  readonly dataFolder: string
  readonly logFile: string
  readonly control: PortClient<typeof controlPort.operations>
  readonly power: PortClient<typeof powerPort.operations>
  /** Runs the command line with the cluster's data folder, its output where ours goes. Returns its exit code. */
  hades(...args: string[]): Promise<number>
  /** Runs a program inside the lab's network and returns what it printed. */
  inside(...command: string[]): Promise<string>
  startService(): Promise<void>
  /** Ends the service; with SIGKILL it has no time for a word. */
  stopService(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** Ends the service and takes the lab away. The data folder stays. */
  close(): Promise<void>
}

/** A login at an emulated machine that is still starting takes many seconds. */
const insideMs = 60_000

/** How long the service may take to answer after its start, on a busy machine. */
const startMs = 60_000

/** Makes the lab in `folder` (what an earlier one left there is removed first) and starts the service in it. */
export async function openCluster(
  config: LabConfig,
  folder: string,
  options: { readonly upArgs?: readonly string[]; readonly address: string },
): Promise<Cluster> {
  await mkdir(folder, { recursive: true })
  const labFolder = join(folder, 'lab')
  const dataFolder = join(folder, 'data')
  await destroyLab(labFolder)
  await rm(dataFolder, { recursive: true, force: true })
  const lab = await createLab(config, labFolder)
  const logFile = join(folder, 'hades.log')
  const transport = { kind: 'unix', socketPath: join(dataFolder, 'control.sock') } as const
  let child: ChildProcess | undefined
  const cluster: Cluster = {
    lab,
    dataFolder,
    logFile,
    control: createClient(controlPort, transport),
    power: createClient(powerPort, transport),
    async hades(...args) {
      const { exitCode } = await execa(program, ['--data', dataFolder, ...args], { stdio: 'inherit', reject: false })
      return exitCode ?? 1
    },
    async inside(...command) {
      const [ip = '', ...rest] = inNamespace(lab.namespace, command)
      return (await execa(ip, rest, { timeout: insideMs })).stdout
    },
    async startService() {
      const log = await open(logFile, 'a')
      const up = [program, '--data', dataFolder, 'up', '--address', options.address, ...(options.upArgs ?? [])]
      const [ip = '', ...rest] = inNamespace(lab.namespace, up)
      child = spawn(ip, rest, { stdio: ['ignore', log.fd, log.fd] })
      await log.close()
      const ended = once(child, 'exit').then(([code]) => {
        throw new Error(`the service ended with ${code}: see ${logFile}`)
      })
      const answers = until('the service to answer', () => cluster.control.getStatus({}), { timeoutMs: startMs })
      await Promise.race([answers, ended])
      ended.catch(() => {})
    },
    async stopService(signal) {
      if (!child || child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill(signal)
      await ended
    },
    async close() {
      await cluster.stopService('SIGTERM')
      await destroyLab(labFolder)
    },
  }
  try {
    await cluster.startService()
    return cluster
  } catch (error) {
    await cluster.close()
    throw error
  }
}

/** Makes the lab's machines known to the service, all or those of these names, each with its controller. */
export async function addLabHosts(cluster: Cluster, password: string, names?: readonly string[]): Promise<void> {
  for (const machine of cluster.lab.machines) {
    if (names?.includes(machine.name) === false) continue
    await cluster.control.addHost({
      name: machine.name,
      interfaces: [{ mac: machine.mac, ip: machine.address }],
      powerMethods: [bmcOf(cluster.lab, machine, password)],
    })
  }
}

/** The controller of a machine, as the service is told of it. */
export function bmcOf({ bmc }: Lab, { bmcAddress }: LabMachine, password: string) {
  return { driver: 'ipmi', address: bmcAddress, username: bmc.username, password, options: [] }
}

/** Publishes an image file and waits until it is there. */
export async function publish({ control }: Cluster, path: string, reference: string): Promise<void> {
  const { task } = await control.publishImage({ reference, path })
  await until(
    `image ${reference}`,
    async () => {
      const now = (await control.getTask({ task: task.id })).task
      if (now.state === 'failed') throw new Error(now.failure?.message.join(': '))
      return now.state === 'done'
    },
    { timeoutMs: 300_000 },
  )
}

/** Every event of a deployment, oldest first. */
export async function eventsOf({ control }: Cluster, deployment: number): Promise<readonly EventView[]> {
  return (await control.listEvents({ deployment, limit: 10_000 })).events
}

/** What the SSH server of a machine says first, and the host name that a log-in as root with the key in `keyFile` finds. */
export async function greet(
  cluster: Cluster,
  address: string,
  keyFile: string,
): Promise<{ banner: string; hostName: string }> {
  const banner = await cluster.inside('bash', '-c', `head -n 1 < /dev/tcp/${address}/22`)
  const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR']
  const ssh = ['ssh', '-i', keyFile, ...options.flatMap((option) => ['-o', option])]
  const hostName = await cluster.inside(...ssh, `root@${address}`, 'hostname')
  return { banner: banner.trim(), hostName: hostName.trim() }
}
