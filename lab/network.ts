// The lab's network: a namespace of its own with a bridge, the gateway's and the BMCs' addresses on it, and one tap a
// machine. Nothing of it is visible outside the namespace; the machine's own interfaces are never touched.
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { execa } from 'execa'
import { until } from '../src/lib/until.ts'
import { Failure } from '../src/model/failure.ts'
import type { LabConfig } from './config.ts'
import { endProcess, type RecordedProcess, startRecorded, startTimeOf } from './process.ts'

export const bridge = 'br0'

/** The command line that runs `command` inside the namespace. */
export function inNamespace(namespace: string, command: readonly string[]): string[] {
  return ['ip', 'netns', 'exec', namespace, ...command]
}

export async function namespaceExists(namespace: string): Promise<boolean> {
  return stat(`/run/netns/${namespace}`).then(
    () => true,
    () => false,
  )
}

/** Lines for `ip -batch` that make the network. The name of machine i's tap is `tap<i>`. */
export function networkCommands(config: LabConfig, folder: string): string[] {
  return [
    'link set lo up',
    // A fixed address, because a bridge otherwise takes that of whichever port came last and the machines' ARP goes stale.
    `link add ${bridge} address 52:54:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
    // Says whose the namespace is, to a lab of the same name in another folder.
    `link set ${bridge} alias "hades-lab ${folder}"`,
    `addr add ${config.gateway}/${config.prefixBits} dev ${bridge}`,
    ...config.machines.map((machine) => `addr add ${machine.bmcAddress}/32 dev ${bridge}`),
    `link set ${bridge} up`,
    ...config.machines.flatMap((_, index) => [
      `tuntap add dev tap${index} mode tap`,
      `link set tap${index} addrgenmode none`,
      `link set tap${index} master ${bridge} up`,
    ]),
  ]
}

/**
 * iPXE waits 16 s for a router before it goes on with IPv4 alone. This advertisement offers no route, no prefix and no
 * DHCPv6, which is all that it takes to end the wait.
 */
export const routerAdvertisements = `interface ${bridge} {
  AdvSendAdvert on;
  AdvDefaultLifetime 0;
  MinRtrAdvInterval 30;
  MaxRtrAdvInterval 60;
};
`

/** The folder of the lab that made this namespace, from the alias of its bridge; undefined when it has none. */
async function ownerOf(namespace: string): Promise<string | undefined> {
  const { stdout } = await execa('ip', ['-n', namespace, '-j', 'link', 'show', bridge], { reject: false })
  const [, owner] = /"ifalias":"hades-lab ([^"]*)"/.exec(stdout) ?? []
  return owner
}

/**
 * Removes the namespace of a lab that was ended from without: one of ours in which nothing runs. Throws Failure
 * `already-exists` when there is any other of this name.
 */
export async function clearNamespace(namespace: string): Promise<void> {
  if (!(await namespaceExists(namespace))) return
  const owner = await ownerOf(namespace)
  if (owner !== undefined && (await processesInside(namespace)).length === 0) {
    await execa('ip', ['netns', 'delete', namespace])
    return
  }
  const advice =
    owner === undefined
      ? `look with \`ip netns pids ${namespace}\`, then \`ip netns delete ${namespace}\`, or choose another name`
      : `it belongs to the lab in ${owner}; remove that one with \`down\`, or choose another name`
  throw new Failure('already-exists', `the network namespace ${namespace} is there already: ${advice}`, {
    at: 'network',
  })
}

/** Makes the namespace and all in it, owned by the lab of `folder`. */
export async function createNetwork(config: LabConfig, folder: string): Promise<void> {
  const namespace = config.network
  await execa('ip', ['netns', 'add', namespace])
  // Duplicate address detection would hold back the bridge's link-local address, and with it the router advertisements.
  const withoutDetection =
    'for name in accept_dad dad_transmits; do echo 0 >/proc/sys/net/ipv6/conf/default/$name; done'
  await execa('ip', ['netns', 'exec', namespace, 'sh', '-c', withoutDetection])
  await execa('ip', ['-n', namespace, '-batch', '-'], { input: networkCommands(config, folder).join('\n') })
}

/** Starts the router advertisements; files are kept in `folder`. */
export async function startRouterAdvertisements(namespace: string, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(`${folder}/conf`, routerAdvertisements)
  const command = ['radvd', '-n', '-m', 'stderr', '-C', `${folder}/conf`, '-p', `${folder}/pid`]
  await startRecorded(inNamespace(namespace, command), `${folder}/process`, `${folder}/log`)
}

/** This process and those that started it: ending them would end the removal half-way. */
async function ourLine(): Promise<Set<number>> {
  const line = new Set<number>([process.pid])
  const { stdout } = await execa('ps', ['-eo', 'pid=,ppid='])
  const parents = new Map(stdout.split('\n').map((row) => row.trim().split(/\s+/).map(Number) as [number, number]))
  for (let pid = parents.get(process.pid); pid !== undefined && pid > 0 && !line.has(pid); pid = parents.get(pid)) {
    line.add(pid)
  }
  return line
}

/** The living processes inside the namespace, without ourselves. */
export async function processesInside(namespace: string): Promise<RecordedProcess[]> {
  const { stdout } = await execa('ip', ['netns', 'pids', namespace])
  const ours = await ourLine()
  const found: RecordedProcess[] = []
  for (const pid of stdout.split('\n').map(Number)) {
    const startTime = pid > 0 && !ours.has(pid) ? await startTimeOf(pid) : undefined
    if (startTime !== undefined) found.push({ pid, startTime })
  }
  return found
}

/**
 * Ends everything that runs inside the namespace of the lab in `folder` and removes it. Does nothing when there is none or
 * another lab owns it. One without an owner is ours: we were cut short before its bridge was made.
 */
export async function destroyNetwork(namespace: string, folder: string): Promise<void> {
  if (!(await namespaceExists(namespace))) return
  if (((await ownerOf(namespace)) ?? folder) !== folder) return
  // A BMC may be starting a machine at this moment, so one look is not enough.
  await until(
    `the processes in namespace ${namespace} to end`,
    async () => {
      const inside = await processesInside(namespace)
      await Promise.all(inside.map(endProcess))
      return inside.length === 0
    },
    { timeoutMs: 20_000, everyMs: 20 },
  )
  await execa('ip', ['netns', 'delete', namespace])
}

/** Whether a process listens on this UDP port of this address inside the namespace of `pid`. */
export async function listensOnUdp(pid: number, address: string, port: number): Promise<boolean> {
  const table = await readFile(`/proc/${pid}/net/udp`, 'latin1').catch(() => '')
  const reversed = address.split('.').reverse()
  const hex = reversed.map((part) => Number(part).toString(16).padStart(2, '0')).join('')
  return table.toLowerCase().includes(`${hex}:${port.toString(16).padStart(4, '0')} `)
}
