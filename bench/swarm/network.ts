// The network of a run: a namespace with a switch (a bridge), one for the origin, one for each node, and links that are
// shaped alike in both directions. All of it lies in namespaces of this run; the machine's own interfaces are never touched.
import { readdir, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import pLimit from 'p-limit'
import { endProcess, type RecordedProcess, startTimeOf } from '../../lab/process.ts'
import { until } from '../../src/lib/until.ts'
import { frameHeaderBytes } from './limit.ts'

export type NetworkOptions = { readonly nodes: number; readonly mbit: number; readonly congestion: string }

export type Network = NetworkOptions & {
  readonly prefix: string
  readonly switch: string
  readonly origin: string
  /** The namespace of each node. */
  readonly hosts: readonly string[]
}

export const originAddress = '10.77.0.1'

export function nodeAddress(node: number): string {
  return `10.77.${1 + Math.floor(node / 250)}.${1 + (node % 250)}`
}

/** The origin has number 0, node n has n + 1. */
function addressOf(index: number): string {
  return index === 0 ? originAddress : nodeAddress(index - 1)
}

function macOf(index: number): string {
  const [high, low] = [index >> 8, index & 255].map((byte) => byte.toString(16).padStart(2, '0'))
  return `52:54:00:01:${high}:${low}`
}

const namePrefix = 'hades-bench'
/** Programs that set up namespaces at once; more only wait for the kernel's one lock. */
const atOnce = 4

// A packet that TCP hands down may be up to this long and passes the shaper whole, cut into frames by nobody, as through a
// card that does it. Every packet is acknowledged, and acknowledgements share the link with what a node passes on: 8 nodes
// in a ring, each sending to the next at 16 Mbit/s, brought 99.8 % of the limit with 64 KiB, 99.4 % with 16 KiB, 97.9 % with
// 4 KiB and 97.8 % with single frames, which also cost the cores most. But 64 KiB hold such a link for 33 ms.
const packetBytesMax = 16 * 1024
// The bucket must hold the longest packet with the headers of its frames, else tbf cuts it or drops it. At the start of a
// run it gives 0.02 % of 96 MiB for nothing.
const bucketBytes = 20 * 1024
// The queue of a switch port or a network card holds so many milliseconds at the link's rate.
const queueMs = 100

function shape(verb: 'add' | 'change', device: string, mbit: number): string {
  const kbit = Math.max(8, Math.round(mbit * 1000))
  return `qdisc ${verb} dev ${device} root handle 1: tbf rate ${kbit}kbit burst ${bucketBytes} latency ${queueMs}ms`
}

const bridge = 'br0'
const device = 'eth0'

function portOf(index: number): string {
  return `p${index}`
}

/** Makes the network; `destroyNetwork` ends it, also after this has thrown half-way. */
export async function createNetwork(prefix: string, options: NetworkOptions): Promise<Network> {
  const network = { ...options, ...namesOf(prefix, options.nodes) }
  const ends = [network.origin, ...network.hosts]
  await ip(
    [],
    [network.switch, ...ends].map((name) => `netns add ${name}`),
  )
  await ip(
    ['-n', network.switch],
    [
      `link add ${bridge} address 52:54:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      `link set ${bridge} addrgenmode none`,
      ...ends.flatMap((end, index) => [
        `link add ${portOf(index)} type veth peer name ${device} netns ${end}`,
        `link set ${portOf(index)} addrgenmode none`,
        attach(index),
      ]),
      `link set ${bridge} up`,
    ],
  )
  await tc(
    network.switch,
    ends.map((_, index) => shape('add', portOf(index), options.mbit)),
  )
  // Frames that a bridge passes on would go through the hooks of iptables, which here have no rules.
  const quiet = 'for hook in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $hook ] || echo 0 >$hook; done'
  await execa('ip', ['netns', 'exec', network.switch, 'sh', '-c', quiet])
  const limited = pLimit(atOnce)
  await Promise.all(ends.map((end, index) => limited(() => setUpEnd(end, index, options))))
  await Promise.all(ends.map((end, index) => limited(() => introduce(end, index, options))))
  return network
}

function attach(index: number): string {
  return `link set ${portOf(index)} master ${bridge} up`
}

function namesOf(prefix: string, nodes: number): Pick<Network, 'prefix' | 'switch' | 'origin' | 'hosts'> {
  const hosts = Array.from({ length: nodes }, (_, node) => `${prefix}-n${node}`)
  return { prefix, switch: `${prefix}-switch`, origin: `${prefix}-origin`, hosts }
}

async function setUpEnd(namespace: string, index: number, { mbit, congestion }: NetworkOptions): Promise<void> {
  const address = addressOf(index)
  await ip(
    ['-n', namespace],
    [
      'link set lo up',
      `link set ${device} address ${macOf(index)} addrgenmode none gso_max_size ${packetBytesMax}`,
      `link set ${device} up`,
      `addr add ${address}/16 dev ${device} noprefixroute`,
      // By the route, because a namespace may not choose what the machine does not allow everyone.
      `route add 10.77.0.0/16 dev ${device} src ${address} congctl ${congestion}`,
    ],
  )
  await tc(namespace, [shape('add', device, mbit)])
}

/**
 * Tells one end the hardware addresses of all others. All namespaces of a machine share one table of neighbours, which
 * has 1024 places for those that were asked for: 72 nodes with their connections overflow it, and then nobody new is reached.
 */
async function introduce(namespace: string, index: number, { nodes }: NetworkOptions): Promise<void> {
  const others = Array.from({ length: nodes + 1 }, (_, other) => other).filter((other) => other !== index)
  await ip(
    ['-n', namespace],
    others.map((other) => `neigh replace ${addressOf(other)} lladdr ${macOf(other)} dev ${device} nud permanent`),
  )
}

async function ip(options: readonly string[], lines: readonly string[]): Promise<void> {
  await execa('ip', [...options, '-batch', '-'], { input: lines.join('\n') })
}

async function tc(namespace: string, lines: readonly string[]): Promise<void> {
  await execa('tc', ['-n', namespace, '-batch', '-'], { input: lines.join('\n') })
}

/** Gives the node's link another rate, both ways. */
export async function setRate(network: Network, node: number, mbit: number): Promise<void> {
  await tc(network.switch, [shape('change', portOf(node + 1), mbit)])
  await tc(hostOf(network, node), [shape('change', device, mbit)])
}

/**
 * The program that stands for a node's link and holds back all that passes it, each way. Between `unplug` and `plug` of that
 * node it must be started in the namespace of the switch; the link is there as long as it runs.
 */
export function delayedLink(network: Network, node: number, delayMs: number): string[] {
  const program = ['/usr/bin/python3', join(import.meta.dirname, 'delay-link.py')]
  return [...program, portOf(node + 1), hostOf(network, node), device, `${delayMs}`]
}

/** Takes away the node's link. */
export async function unplug(network: Network, node: number): Promise<void> {
  await ip(['-n', network.switch], [`link delete ${portOf(node + 1)}`])
}

/** Sets up a link that has been made for the node. */
export async function plug(network: Network, node: number): Promise<void> {
  await ip(['-n', network.switch], [attach(node + 1)])
  await tc(network.switch, [shape('add', portOf(node + 1), network.mbit)])
  await setUpEnd(hostOf(network, node), node + 1, network)
  await introduce(hostOf(network, node), node + 1, network)
}

/** Takes the node off the switch. Its own link stays up: neither end learns of it. */
export async function cutLink(network: Network, node: number): Promise<void> {
  await ip(['-n', network.switch], [`link set ${portOf(node + 1)} nomaster`])
}

function hostOf(network: Network, node: number): string {
  const host = network.hosts[node]
  if (host === undefined) throw new Error(`there is no node ${node}`)
  return host
}

export type Traffic = {
  /** Bytes that left the origin, net of the headers of Ethernet, IP and TCP. */
  readonly originSent: number
  readonly originReceived: number
  /** The same that each node received. */
  readonly received: readonly number[]
}

/** What has passed the links so far. The shapers count every frame on its way, also those inside a long packet. */
export async function readTraffic(network: Network): Promise<Traffic> {
  const [ports, origin] = await Promise.all([payloadBy(network.switch), payloadBy(network.origin)])
  return {
    originSent: origin.get(device) ?? 0,
    originReceived: ports.get(portOf(0)) ?? 0,
    received: network.hosts.map((_, node) => ports.get(portOf(node + 1)) ?? 0),
  }
}

type Counted = { readonly kind: string; readonly dev: string; readonly bytes: number; readonly packets: number }

async function payloadBy(namespace: string): Promise<Map<string, number>> {
  const { stdout } = await execa('tc', ['-n', namespace, '-s', '-j', 'qdisc', 'show'])
  // The output of tc(8) with -j; only the fields that every counted qdisc has are used.
  const counted = (JSON.parse(stdout) as Counted[]).filter(({ kind }) => kind === 'tbf')
  return new Map(counted.map(({ dev, bytes, packets }) => [dev, Math.max(0, bytes - packets * frameHeaderBytes)]))
}

/** The prefix of this process's namespaces: nobody else's, and it tells whether we still live. */
export async function ownPrefix(): Promise<string> {
  return `${namePrefix}-${process.pid}-${await startTimeOf(process.pid)}`
}

/** Ends what runs inside the namespaces of `prefix` and removes them. Removes nothing else. */
export async function destroyNetwork(prefix: string): Promise<void> {
  const names = (await readdir('/run/netns').catch(() => [])).filter((name) => name.startsWith(`${prefix}-`))
  const inodes = new Set(await Promise.all(names.map(async (name) => (await stat(`/run/netns/${name}`)).ino)))
  await until(
    `the processes in the namespaces ${prefix}-* to end`,
    async () => {
      const inside = await processesInside(inodes)
      await Promise.all(inside.map(endProcess))
      return inside.length === 0
    },
    { timeoutMs: 20_000, everyMs: 20 },
  )
  await ip(
    [],
    names.map((name) => `netns delete ${name}`),
  )
}

/** The living processes in the network namespaces of these inodes; one look at /proc for all, as there may be many. */
async function processesInside(inodes: ReadonlySet<number>): Promise<RecordedProcess[]> {
  const found: RecordedProcess[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const link = await readlink(`/proc/${name}/ns/net`).catch(() => '') // It may have ended by now.
    const [, inode] = /^net:\[(\d+)\]$/.exec(link) ?? []
    const startTime = inodes.has(Number(inode)) ? await startTimeOf(Number(name)) : undefined
    if (startTime !== undefined) found.push({ pid: Number(name), startTime })
  }
  return found
}

/** The prefixes of runs whose process is gone, among names that begin with one. */
export async function prefixesOfDeadRuns(names: readonly string[]): Promise<string[]> {
  const prefixes = new Set<string>()
  for (const name of names) {
    const [prefix, pid, startTime] = /^hades-bench-(\d+)-(\d+)(?=-|$)/.exec(name) ?? []
    if (prefix !== undefined && (await startTimeOf(Number(pid))) !== startTime) prefixes.add(prefix)
  }
  return [...prefixes]
}
