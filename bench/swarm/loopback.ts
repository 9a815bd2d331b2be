// Part three: what one agent can do where no link holds it back. Three of a kind stand in a row on loopback; the middle one
// takes the image from the first and passes it on to the last at the same time, and its processor time is what counts. The
// first of our row is the origin, because the head of a pipeline takes from nobody else.
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../../src/lib/until.ts'
import type { BenchOptions } from './arguments.ts'
import { type PublishedImage, sha256Of } from './image.ts'
import { methods, originCommand } from './methods.ts'
import { createNetwork, destroyNetwork, originAddress } from './network.ts'
import {
  cpuSecondsOf,
  endParticipant,
  machineSeconds,
  type Participant,
  startParticipant,
  untilReady,
} from './participant.ts'
import { aria2Seeder, libtorrentSeeder, trackerPort } from './stock.ts'
import type { Endpoint, World } from './world.ts'

export const loopbackMethods = ['swarm', 'aria2-swarm', 'libtorrent'] as const
type LoopbackMethod = (typeof loopbackMethods)[number]

export type LoopbackResult = {
  readonly method: LoopbackMethod
  readonly mib: number
  readonly run: number
  /** Of the middle process, from the gate to its own last byte, and to the last byte of the one behind it. */
  readonly in_mb_s: number
  readonly out_mb_s: number
  /** For each GB that it took and passed on. */
  readonly cpu_s_per_gb: number
  readonly machine_busy: number
}

export type LoopbackOptions = Pick<BenchOptions, 'limitFactor' | 'diskMbit'> & {
  readonly method: LoopbackMethod
  readonly run: number
  readonly image: PublishedImage
  readonly folder: string
  readonly prefix: string
  readonly signal: AbortSignal
}

// Clients tell each other apart by their addresses; all of 127/8 is loopback.
const endpoints: readonly [Endpoint, Endpoint, Endpoint] = [
  { host: '127.0.0.2', port: 6882 },
  { host: '127.0.0.3', port: 6883 },
  { host: '127.0.0.4', port: 6884 },
]

/** So slow nobody is: what takes longer has come to a halt. */
const megabytesPerSecondMin = 5

/** Throws an Error when one of them ends with other bytes, or not in time, and the reason of `signal`. */
export async function runLoopback(options: LoopbackOptions): Promise<LoopbackResult> {
  const { prefix, folder } = options
  const participants: Participant[] = []
  try {
    // The origin's namespace of a network without nodes: the origin's address is reached inside of it over loopback.
    const network = await createNetwork(prefix, { nodes: 0, mbit: 1, congestion: 'cubic' })
    return await measure(options, network.origin, participants)
  } finally {
    await Promise.all(participants.map(endParticipant))
    await destroyNetwork(prefix)
    await rm(folder, { recursive: true, force: true })
  }
}

function firstOfRow(world: World, method: LoopbackMethod): string[][] {
  const [first] = endpoints
  const row = endpoints.map(({ host, port }) => `${host}:${port}`).join(',')
  const program = [process.execPath, join(import.meta.dirname, 'chain-tracker.ts')]
  const tracker = [...program, '--listen', originAddress, '--port', `${trackerPort}`, '--row', row]
  if (method === 'swarm') return [originCommand(world)]
  return [tracker, method === 'libtorrent' ? libtorrentSeeder(world, first) : aria2Seeder(world, first)]
}

async function measure(options: LoopbackOptions, namespace: string, participants: Participant[]) {
  const { method, image, folder, diskMbit, signal } = options
  const world = { image, folder, diskMbit }
  const logOf = (name: string) => join(folder, `${name}.log`)
  const start = async (name: string, cwd: string, command: readonly string[]): Promise<Participant> => {
    const started = await startParticipant({ name, namespace, command, folder: cwd, log: logOf(name) })
    participants.push(started)
    await untilReady([started], logOf, signal)
    return started
  }
  await mkdir(folder, { recursive: true })
  for (const [index, command] of firstOfRow(world, method).entries()) await start(`first${index}`, folder, command)
  const startNode = async (name: string, endpoint: Endpoint) => {
    const cwd = join(folder, name)
    await mkdir(cwd)
    return start(name, cwd, await methods[method].node(world, { name, folder: cwd, isCorruptible: false, endpoint }))
  }
  // Our tracker makes its row by name.
  const middle = await startNode('a-middle', endpoints[1])
  const behind = await startNode('b-behind', endpoints[2])
  const result = await timed(options, middle, behind)
  for (const { name } of [middle, behind]) {
    const digest = await sha256Of(join(folder, name, 'image.zst'))
    if (digest !== image.sha256) throw new Error(`${method}: ${name} ended with other bytes than the image's`)
  }
  return result
}

async function timed(options: LoopbackOptions, middle: Participant, behind: Participant): Promise<LoopbackResult> {
  const { image, signal } = options
  const before = { cpu: await cpuSecondsOf(new Set([middle.pid])), machine: await machineSeconds() }
  const gate = performance.now()
  for (const participant of [middle, behind]) participant.tell('go')
  const timeoutMs = image.bytes / megabytesPerSecondMin / 1000
  await until(
    `${options.method} to bring the image to both on loopback`,
    () => {
      const dead = [middle, behind].find(({ at }) => at.ended !== undefined && at.durable === undefined)
      if (dead !== undefined) throw new Error(`${dead.name} has ended`)
      return middle.at.durable !== undefined && behind.at.durable !== undefined
    },
    { timeoutMs, everyMs: 20, signal },
  )
  const cpu = await cpuSecondsOf(new Set([middle.pid]))
  const machine = await machineSeconds()
  const used = (cpu.get(middle.pid) ?? 0) - (before.cpu.get(middle.pid) ?? 0)
  const rate = ({ at }: Participant) => Math.round(image.bytes / 1000 / ((at.last ?? at.durable ?? gate) - gate))
  return {
    method: options.method,
    mib: image.bytes / 2 ** 20,
    run: options.run,
    in_mb_s: rate(middle),
    out_mb_s: rate(behind),
    cpu_s_per_gb: Number(((used * 1e9) / image.bytes).toFixed(3)),
    machine_busy: Number(((machine.busy - before.machine.busy) / (machine.all - before.machine.all)).toFixed(3)),
  }
}
