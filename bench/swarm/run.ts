// One run of one method: makes the network, starts everybody, opens the gate, does what the faults say, and measures until
// the last node has the image on its disk or the time is up. The digests are compared when the clock has stopped.
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { BenchOptions, MethodName } from './arguments.ts'
import { chooseVictims, type Fault, generator, isDue } from './faults.ts'
import { type PublishedImage, sha256Of } from './image.ts'
import { last, limitSeconds, median } from './limit.ts'
import { methods, originCommand } from './methods.ts'
import {
  createNetwork,
  cutLink,
  delayedLink,
  destroyNetwork,
  type Network,
  nodeAddress,
  plug,
  readTraffic,
  setRate,
  type Traffic,
  unplug,
} from './network.ts'
import {
  cpuSecondsOf,
  endParticipant,
  machineSeconds,
  type Participant,
  startParticipant,
  untilReady,
} from './participant.ts'

export type RunOptions = Pick<
  BenchOptions,
  'mbit' | 'diskMbit' | 'faults' | 'seed' | 'limitFactor' | 'skewS' | 'endsWithOthers' | 'congestion'
> & {
  readonly method: MethodName
  readonly nodes: number
  readonly run: number
  readonly image: PublishedImage
  /** An empty folder of this run. */
  readonly folder: string
  /** Of the namespaces; see `ownPrefix`. */
  readonly prefix: string
  readonly signal: AbortSignal
  readonly onProgress: (line: string) => void
}

/** Times in seconds since the gate opened; null when it did not happen. */
export type NodeResult = {
  readonly node: number
  readonly address: string
  readonly fault?: string
  readonly last_s: number | null
  readonly durable_s: number | null
  readonly received_bytes: number
  readonly stats?: unknown
}

export type RunResult = {
  readonly method: MethodName
  readonly n: number
  readonly mib: number
  readonly mbit: number
  readonly disk_mbit?: number
  readonly run: number
  readonly skew_s?: number
  readonly limit_s: number
  /** Of the nodes that were neither killed nor cut off, to their last byte. */
  readonly median_s: number | null
  readonly last_s: number | null
  readonly eff_median: number | null
  readonly eff_last: number | null
  /** The same to the moment when the file was on the disk. */
  readonly durable_median_s: number | null
  readonly durable_last_s: number | null
  readonly eff_durable_last: number | null
  /** What left the origin, net of headers, in images. */
  readonly origin_copies: number
  readonly peers_bytes: number
  readonly finished: number
  /** Processor seconds of all nodes together since the gate, and how busy all processors of this machine were. */
  readonly cpu_s: number
  readonly machine_busy: number
  /** Of the nodes that no fault has hit, on their disks. */
  readonly others_last_s?: number | null
  readonly faults?: readonly string[]
  /** Not in JSON lines, unless --verbose. */
  readonly nodes?: readonly NodeResult[]
}

type Node = {
  readonly index: number
  readonly participant: Participant
  readonly folder: string
  readonly fault: Fault | undefined
}

const tickMs = 250
const progressEveryMs = 2000

/** Throws an Error when a node ends with other bytes than the image's, and the reason of `signal`. */
export async function runMethod(options: RunOptions): Promise<RunResult> {
  const { nodes, prefix, folder, mbit, congestion } = options
  const victims = chooseVictims(options.faults, nodes, options.seed)
  const participants: Participant[] = []
  try {
    const network = await createNetwork(prefix, { nodes, mbit, congestion })
    const running = await startAll(options, network, victims, participants)
    const result = await measure(options, network, running)
    await Promise.all(participants.map(endParticipant))
    await verify(options, running)
    return result
  } finally {
    await Promise.all(participants.map(endParticipant))
    await destroyNetwork(prefix)
    await rm(folder, { recursive: true, force: true })
  }
}

async function startAll(
  options: RunOptions,
  network: Network,
  victims: ReadonlyMap<Fault, readonly number[]>,
  participants: Participant[],
): Promise<Node[]> {
  const { folder, image, diskMbit, signal } = options
  const method = methods[options.method]
  const world = { image, folder, diskMbit }
  await mkdir(folder, { recursive: true })
  const logOf = (name: string) => join(folder, `${name}.log`)
  const start = async (name: string, namespace: string, cwd: string, command: readonly string[]) => {
    signal.throwIfAborted()
    const participant = await startParticipant({ name, namespace, command, folder: cwd, log: logOf(name) })
    participants.push(participant)
    return participant
  }
  const commands = [originCommand(world), ...(await method.origin(world))]
  for (const [index, command] of commands.entries()) {
    await untilReady([await start(`origin${index}`, network.origin, folder, command)], logOf, signal)
  }
  const running: Node[] = []
  for (const [index, namespace] of network.hosts.entries()) {
    const name = `n${index}`
    const cwd = join(folder, name)
    await mkdir(cwd)
    const fault = [...victims].find(([, hit]) => hit.includes(index))?.[0]
    if (fault?.kind === 'delay') {
      await unplug(network, index)
      const command = delayedLink(network, index, fault.delayMs)
      await untilReady([await start(`${name}-link`, network.switch, folder, command)], logOf, signal)
      await plug(network, index)
    }
    const command = await method.node(world, { name, folder: cwd, isCorruptible: fault?.kind === 'corrupt' })
    running.push({ index, participant: await start(name, namespace, cwd, command), folder: cwd, fault })
  }
  await untilReady(
    running.map(({ participant }) => participant),
    logOf,
    signal,
  )
  return running
}

/** The victims of these never finish; those of the others do, if late. */
function isGone({ fault }: Node): boolean {
  return fault?.kind === 'kill' || fault?.kind === 'cut'
}

async function measure(options: RunOptions, network: Network, running: readonly Node[]): Promise<RunResult> {
  const { image, signal } = options
  const limit = limitSeconds({ imageBytes: image.bytes, linkMbit: options.mbit, diskMbit: options.diskMbit })
  const groups = new Set(running.map(({ participant }) => participant.pid))
  const before = {
    traffic: await readTraffic(network),
    machine: await machineSeconds(),
    cpu: await cpuSecondsOf(groups),
  }
  const awaited = running.filter((node) => (options.endsWithOthers ? node.fault === undefined : !isGone(node)))
  const pending = new Set(running.filter(({ fault }) => fault !== undefined && fault.kind !== 'delay'))
  const gate = performance.now()
  const opening = openGates(options, running)
  let toldAt = gate
  for (;;) {
    const seconds = (performance.now() - gate) / 1000
    const traffic = await readTraffic(network)
    const medianShare = shareOf(traffic, before.traffic, image.bytes)
    for (const node of pending) {
      if (!node.fault || !isDue(node.fault.at, { seconds, medianShare })) continue
      pending.delete(node)
      await strike(network, node, node.fault)
    }
    const done = awaited.filter(({ participant }) => participant.at.durable !== undefined).length
    if (performance.now() - toldAt >= progressEveryMs) {
      toldAt = performance.now()
      const copies = (traffic.originSent - before.traffic.originSent) / image.bytes
      options.onProgress(
        `${options.method} N=${options.nodes} run ${options.run}: ${seconds.toFixed(0)} s of ${limit.toFixed(0)}, ` +
          `median ${(medianShare * 100).toFixed(0)} %, ${done}/${awaited.length} done, ${copies.toFixed(2)} copies`,
      )
    }
    const isEnded = awaited.every(({ participant }) => participant.at.durable ?? participant.at.ended)
    if (isEnded || seconds > limit * options.limitFactor) break
    await delay(tickMs, undefined, { signal })
  }
  for (const timer of opening) clearTimeout(timer)
  const cpu = [...(await cpuSecondsOf(groups))].map(([pid, seconds]) => seconds - (before.cpu.get(pid) ?? 0))
  const machine = await machineSeconds()
  return resultOf(options, running, {
    limit,
    gate,
    traffic: between(before.traffic, await readTraffic(network)),
    cpu: cpu.reduce((sum, seconds) => sum + seconds, 0),
    busy: (machine.busy - before.machine.busy) / (machine.all - before.machine.all),
  })
}

/** Tells all nodes to go but the late ones, each at its moment. */
function openGates({ skewS, seed }: RunOptions, running: readonly Node[]): NodeJS.Timeout[] {
  const punctual = running.filter(({ fault }) => fault?.kind !== 'late')
  const random = generator(seed)
  if (skewS > 0)
    return punctual.map(({ participant }) => setTimeout(() => participant.tell('go'), random() * skewS * 1000))
  for (const { participant } of punctual) participant.tell('go')
  return []
}

/** The part of the image that the median node has received. */
function shareOf(now: Traffic, before: Traffic, imageBytes: number): number {
  return Math.max(0, median(between(before, now).received) ?? 0) / imageBytes
}

function between(before: Traffic, now: Traffic): Traffic {
  return {
    originSent: now.originSent - before.originSent,
    originReceived: now.originReceived - before.originReceived,
    received: now.received.map((bytes, node) => bytes - (before.received[node] ?? 0)),
  }
}

async function strike(network: Network, { index, participant }: Node, fault: Fault): Promise<void> {
  if (fault.kind === 'kill') await endParticipant(participant)
  else if (fault.kind === 'late') participant.tell('go')
  else if (fault.kind === 'corrupt') participant.tell('corrupt')
  else if (fault.kind === 'slow') await setRate(network, index, network.mbit * fault.factor)
  else if (fault.kind === 'cut') await cutLink(network, index)
}

type Measured = {
  readonly limit: number
  readonly gate: number
  readonly traffic: Traffic
  readonly cpu: number
  readonly busy: number
}

function resultOf(options: RunOptions, running: readonly Node[], measured: Measured): RunResult {
  const { limit, gate, traffic } = measured
  const since = (at: number | undefined) => (at === undefined ? null : rounded((at - gate) / 1000, 3))
  const lastOf = ({ participant }: Node) => since(participant.at.last)
  const durableOf = ({ participant }: Node) => since(participant.at.durable)
  const efficiency = (seconds: number | null) => (seconds === null ? null : rounded(limit / seconds, 4))
  const counted = running.filter((node) => !isGone(node))
  const lasts = counted.map(lastOf)
  const durables = counted.map(durableOf)
  const { image, faults, diskMbit } = options
  return {
    method: options.method,
    n: options.nodes,
    mib: image.bytes / 2 ** 20,
    mbit: options.mbit,
    ...(diskMbit === undefined ? {} : { disk_mbit: diskMbit }),
    run: options.run,
    ...(options.skewS === 0 ? {} : { skew_s: options.skewS }),
    limit_s: rounded(limit, 3),
    median_s: median(lasts),
    last_s: last(lasts),
    eff_median: efficiency(median(lasts)),
    eff_last: efficiency(last(lasts)),
    durable_median_s: median(durables),
    durable_last_s: last(durables),
    eff_durable_last: efficiency(last(durables)),
    origin_copies: rounded(traffic.originSent / image.bytes, 3),
    peers_bytes: Math.max(0, traffic.received.reduce((sum, bytes) => sum + bytes, 0) - traffic.originSent),
    finished: running.filter(({ participant }) => participant.at.durable !== undefined).length,
    cpu_s: rounded(measured.cpu, 2),
    machine_busy: rounded(measured.busy, 3),
    ...(faults.length === 0
      ? {}
      : {
          others_last_s: last(running.filter(({ fault }) => fault === undefined).map(durableOf)),
          faults: faults.map(({ text }) => text),
        }),
    nodes: running.map((node) => ({
      node: node.index,
      address: nodeAddress(node.index),
      ...(node.fault === undefined ? {} : { fault: node.fault.text }),
      last_s: lastOf(node),
      durable_s: durableOf(node),
      received_bytes: traffic.received[node.index] ?? 0,
      ...(node.participant.stats === undefined ? {} : { stats: JSON.parse(node.participant.stats) as unknown }),
    })),
  }
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}

async function verify({ image, method }: RunOptions, running: readonly Node[]): Promise<void> {
  for (const { participant, folder } of running) {
    if (participant.at.durable === undefined) continue
    const digest = await sha256Of(join(folder, 'image.zst'))
    if (digest !== image.sha256)
      throw new Error(`${method}: ${participant.name} ended with other bytes than the image's`)
  }
}
