// Our agents and the clients that everybody has, in one swarm: each host in a network namespace of its own, because
// transmission takes no addresses of loopback from a tracker.
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { createNetwork, destroyNetwork, nodeAddress, originAddress, ownPrefix } from '../../bench/swarm/network.ts'
import { endParticipant, type Participant, startParticipant, untilReady } from '../../bench/swarm/participant.ts'
import { until } from '../lib/until.ts'
import { encodeTorrent } from '../protocol/torrent.ts'
import type { SupplyCounts } from './piece-supply.ts'
import { openSwarm, takeAll, torrentOf } from './testing.ts'

const bytes = randomBytes(8 * 1024 * 1024 + 777)
const sha256 = createHash('sha256').update(bytes).digest('hex')
const torrent = torrentOf(bytes)
const mbit = 40
const soon = { timeoutMs: 50_000, everyMs: 50 }

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mixed-swarm-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'origin.zst'), bytes)
  return folder
}

const program = [process.execPath, fileURLToPath(import.meta.resolve('./mixed-participant.ts'))]
// Debian's Python: the module is packaged for it alone.
const libtorrent = ['/usr/bin/python3', join(import.meta.dirname, '../../bench/swarm/libtorrent-node.py')]

/** A shell that waits at the gate and then becomes `command`, whose hook `done.sh` says when it has everything. */
function gated(folder: string, command: string): string[] {
  return ['sh', '-c', `cd ${folder}; echo ready; read -r _; exec 3>&1; ${command} >log 2>&1`]
}

const aria2 = (folder: string, file: string) =>
  gated(folder, `exec aria2c --no-conf --seed-ratio=0.0 --dir=. --on-bt-download-complete=${folder}/done.sh ${file}`)
const transmission = (folder: string, file: string) =>
  gated(folder, `exec transmission-cli -w ${folder} -g ${folder}/config -p 51413 -M -f ${folder}/done.sh ${file}`)

test('stock aria2, libtorrent and transmission and our agents feed each other, and all end with the same bytes', async () => {
  const folder = await makeFolder()
  const prefix = await ownPrefix()
  const participants: Participant[] = []
  onTestFinished(async () => {
    await Promise.all(participants.map(endParticipant))
    await destroyNetwork(prefix)
  })
  const network = await createNetwork(prefix, { nodes: 5, mbit, congestion: 'cubic' })
  const logOf = (name: string) => join(folder, `${name}.log`)
  const start = async (name: string, namespace: string, commandIn: (own: string) => readonly string[]) => {
    const own = join(folder, name)
    await mkdir(own)
    await writeFile(join(own, 'done.sh'), '#!/bin/sh\necho last >&3\n', { mode: 0o755 })
    const participant = await startParticipant({
      name,
      namespace,
      command: commandIn(own),
      folder: own,
      log: logOf(name),
    })
    participants.push(participant)
    return participant
  }
  const statsOf = async <T>(from: Participant) => {
    return JSON.parse(await until(`${from.name} to tell`, () => from.stats, soon)) as T
  }

  const origin = await start('origin', network.origin, () => [
    ...program,
    'origin',
    originAddress,
    join(folder, 'origin.zst'),
  ])
  const { url, announce } = await statsOf<{ url: string; announce: string }>(origin)
  const file = join(folder, 'image.torrent')
  await writeFile(file, encodeTorrent({ ...torrent, announce: [announce] }))
  const agent = (name: string) => (own: string) => [
    ...program,
    'agent',
    name,
    file,
    url,
    announce,
    join(own, 'image.zst'),
  ]
  const commands = {
    'agent-a': agent('a'),
    'agent-b': agent('b'),
    aria2: (own: string) => aria2(own, file),
    libtorrent: (own: string) => [...libtorrent, 'fetch', file, own],
    transmission: (own: string) => transmission(own, file),
  }
  const nodes: Participant[] = []
  for (const [index, [name, command]] of Object.entries(commands).entries()) {
    nodes.push(await start(name, network.hosts[index] ?? '', command))
  }
  await untilReady(nodes, logOf, new AbortController().signal)
  const agents = nodes.slice(0, 2)
  const isUnderWay = async (one: Participant) => (await statsOf<SupplyCounts>(one)).verifiedBytes > 0
  // Stock clients ask the tracker again after half a minute: what they are told first must name our agents.
  for (const one of agents) one.tell('go')
  await until(
    'our agents to be under way',
    async () => (await Promise.all(agents.map(isUnderWay))).every(Boolean),
    soon,
  )
  for (const one of nodes.slice(2)) one.tell('go')
  for (const one of nodes) await until(`${one.name} to have everything`, () => one.at.last, soon)
  for (const { name } of nodes) {
    const written = await readFile(join(folder, name, 'image.zst'))
    expect([name, createHash('sha256').update(written).digest('hex')]).toEqual([name, sha256])
  }
  const counts = await Promise.all(agents.map((one) => statsOf<SupplyCounts>(one)))
  const ours = [0, 1].map(nodeAddress)
  const sum = (parts: readonly number[]) => parts.reduce((all, part) => all + part, 0)
  const fromAgents = sum(
    counts.flatMap(({ sources }) => sources.filter(({ name }) => ours.includes(name)).map(({ bytes }) => bytes)),
  )
  // Each byte that an agent has of a peer that is no agent is a stranger's: the seeder opens no connections.
  expect(sum(counts.map(({ fromPeersBytes }) => fromPeersBytes)) - fromAgents).toBeGreaterThan(0)
  expect(sum(counts.map(({ toPeersBytes }) => toPeersBytes)) - fromAgents).toBeGreaterThan(0)
}, 60_000)

test('the origin goes away in the middle: our agents end by what stock clients give them', async () => {
  const folder = await makeFolder()
  const world = await openSwarm(bytes, { originBytesPerSecond: 700_000 })
  onTestFinished(() => world.close())
  const swarms = await Promise.all(['a', 'b'].map((host) => world.join(host)))
  const file = join(folder, 'image.torrent')
  await writeFile(file, encodeTorrent({ ...torrent, announce: [] }))
  await writeFile(join(folder, 'image.zst'), bytes)
  const images = Promise.all(swarms.map((swarm) => takeAll(swarm, bytes)))
  await until(
    'both to be under way',
    () => swarms.every((one) => one.progress().fromOriginBytes + one.progress().fromPeersBytes > 0),
    soon,
  )
  for (const { port } of swarms) {
    const script = join(import.meta.dirname, 'testdata/libtorrent-peer.py')
    const child = spawn('/usr/bin/python3', [script, file, folder, 'seed', String(port)], {
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    onTestFinished(async () => {
      child.stdin.end()
      await ended
    })
  }
  world.origin.isAway = true
  for (const image of await images) expect(image.equals(bytes)).toBe(true)
  expect(world.origin.sentBytes).toBeLessThan(bytes.length / 2)
}, 60_000)
