// The methods that are compared: what runs at the origin and what runs on each node, as commands that speak the lines of
// participant.ts. DHT, PEX and local discovery are off everywhere: the torrents are private, and one tracker knows all.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pieceCount } from '../../src/model/swarm.ts'
import type { MethodName } from './arguments.ts'
import type { PublishedImage } from './image.ts'
import { originAddress } from './network.ts'

export type World = {
  readonly image: PublishedImage
  /** For files of the run that are not the image. */
  readonly folder: string
  readonly diskMbit: number | undefined
}

export type Method = {
  /** Beside the file server, which every method has. */
  readonly origin: (world: World) => Promise<readonly (readonly string[])[]>
  /** The command of a node. */
  readonly node: (world: World, options: NodeOptions) => Promise<readonly string[]>
}

export type NodeOptions = {
  readonly name: string
  /** Where it writes image.zst. */
  readonly folder: string
  /** It is going to be told to send corrupt pieces. */
  readonly isCorruptible: boolean
}

const here = import.meta.dirname
export const originPort = 7780
export const originBase = `http://${originAddress}:${originPort}`
const trackerPort = 6969
export const stockAnnounce = `http://${originAddress}:${trackerPort}/announce`

/** Options of a program as its arguments. */
function argumentsOf(options: Readonly<Record<string, string | number>>): string[] {
  return Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`])
}

/** The service's own origin and tracker. */
export function originCommand({ image }: World): string[] {
  const { infoHash, totalBytes, pieceBytes } = image.ours
  const pieces = pieceCount({ totalBytes, pieceBytes })
  const options = { root: image.library, listen: originAddress, port: originPort, 'info-hash': infoHash, pieces }
  return [process.execPath, join(here, 'origin.ts'), ...argumentsOf(options)]
}

function ourNode(engine: 'swarm' | 'http') {
  return async ({ image, diskMbit }: World, { name, folder, isCorruptible }: NodeOptions) => {
    const options = {
      engine,
      name,
      url: image.url,
      torrent: image.torrentUrl,
      announce: `${originBase}/announce`,
      output: join(folder, 'image.zst'),
      ...(diskMbit === undefined ? {} : { 'disk-mbit': diskMbit }),
    }
    const flags = ['--gate', ...(isCorruptible ? ['--corruptible'] : [])]
    return [process.execPath, join(here, 'node.ts'), ...argumentsOf(options), ...flags]
  }
}

const none = async () => []

/** A shell that waits at the gate, then fetches. `sync -d` is fdatasync. */
function curlNode(url: string): string[] {
  return [
    'sh',
    '-c',
    `echo ready; read -r _; curl -sf -o image.zst ${url} && echo last && sync -d image.zst && echo durable`,
  ]
}

/** Debian's opentracker, which takes only torrents that it has been told of. */
async function trackerCommand({ image, folder }: World): Promise<string[]> {
  const conf = join(folder, 'opentracker.conf')
  await writeFile(join(folder, 'whitelist'), `${image.stock.infoHash}\n`)
  const lines = [
    `listen.tcp_udp ${originAddress}:${trackerPort}`,
    'access.whitelist whitelist',
    `tracker.rootdir ${folder}`,
    'tracker.user nobody',
  ]
  await writeFile(conf, `${lines.join('\n')}\n`)
  const wait = untilShell(`curl -s -o answer ${stockAnnounce.replace(/announce$/, 'scrape')}`)
  return ['sh', '-c', `cd ${folder}; opentracker -f ${conf} & ${wait}; echo ready; wait`]
}

/** Asks every 0.1 s, at most 300 times. */
function untilShell(question: string): string {
  return `tries=300; until ${question}; do tries=$((tries-1)); [ $tries -gt 0 ] || exit 1; sleep 0.1; done`
}

/** A seeder is ready when the tracker counts it. */
function readySeeder(command: string, { image }: World): string[] {
  const hash = image.stock.infoHash.replaceAll(/../g, (byte) => `%${byte}`)
  const scrape = `${stockAnnounce.replace(/announce$/, 'scrape')}?info_hash=${hash}`
  return ['sh', '-c', `${command} & ${untilShell(`curl -s '${scrape}' | grep -aq completei1e`)}; echo ready; wait`]
}

const aria2Private = [
  '--no-conf=true',
  '--quiet=true',
  '--enable-dht=false',
  '--enable-dht6=false',
  '--bt-enable-lpd=false',
  '--enable-peer-exchange=false',
]

// What the study found to be best where aria2 must be used (docs/swarm.md).
const aria2SwarmFlags = [
  '--allow-overwrite=true',
  '--file-allocation=none',
  '--disk-cache=256M',
  '--bt-max-peers=32',
  '--bt-tracker-interval=5',
  '--bt-request-peer-speed-limit=1000M',
  '--seed-ratio=0.0',
  '--seed-time=600',
  '--summary-interval=0',
  '--auto-save-interval=0',
]
const aria2TunedFlags = ['--stream-piece-selector=random', '--min-split-size=1M', ...aria2SwarmFlags]

const rpcUrl = 'http://127.0.0.1:6800/jsonrpc'

/** aria2c idles with its RPC open; the gate is the call that adds the download. Its hook reports when it has all pieces. */
function aria2Node(flags: readonly string[], call: (image: PublishedImage) => Promise<object>) {
  return async ({ image }: World, { folder }: NodeOptions) => {
    await writeFile(join(folder, 'add.json'), JSON.stringify({ jsonrpc: '2.0', id: '1', ...(await call(image)) }))
    await writeFile(join(folder, 'done.sh'), '#!/bin/sh\necho last\nsync -d "$3"\necho durable\n', { mode: 0o755 })
    const all = [...aria2Private, '--enable-rpc=true', `--dir=${folder}`, ...flags]
    const command = `aria2c ${all.join(' ')} --on-bt-download-complete=${join(folder, 'done.sh')}`
    const question = '{"jsonrpc":"2.0","id":"1","method":"aria2.getVersion"}'
    const isUp = untilShell(`curl -s -o answer -d '${question}' ${rpcUrl}`)
    return ['sh', '-c', `${command} & ${isUp}; echo ready; read -r _; curl -s -o answer -d @add.json ${rpcUrl}; wait`]
  }
}

async function addMetalink(image: PublishedImage): Promise<object> {
  return { method: 'aria2.addMetalink', params: [(await readFile(image.stockMetalink)).toString('base64')] }
}

async function addTorrent(image: PublishedImage): Promise<object> {
  return { method: 'aria2.addTorrent', params: [(await readFile(image.stockTorrent)).toString('base64')] }
}

// Debian's Python: its library is for no other.
const libtorrentProgram = ['/usr/bin/python3', join(here, 'libtorrent-node.py')]

export const methods: { readonly [name in MethodName]: Method } = {
  swarm: { origin: none, node: ourNode('swarm') },
  http: { origin: none, node: async ({ image }) => curlNode(image.url) },
  'http-node': { origin: none, node: ourNode('http') },
  'aria2-paper': { origin: async (world) => [await trackerCommand(world)], node: aria2Node([], addMetalink) },
  'aria2-tuned': {
    origin: async (world) => [await trackerCommand(world)],
    node: aria2Node(aria2TunedFlags, addMetalink),
  },
  'aria2-swarm': {
    origin: async (world) => {
      const flags = ['--seed-ratio=0.0', '--bt-seed-unverified=true', '--check-integrity=false', '--bt-max-peers=0']
      const seeder = ['aria2c', ...aria2Private, ...flags, `--dir=${world.image.folder}`, world.image.stockTorrent]
      return [await trackerCommand(world), readySeeder(seeder.join(' '), world)]
    },
    node: aria2Node(aria2SwarmFlags, addTorrent),
  },
  libtorrent: {
    origin: async (world) => {
      const seeder = [...libtorrentProgram, 'seed', world.image.stockTorrent, world.image.folder]
      return [await trackerCommand(world), readySeeder(seeder.join(' '), world)]
    },
    node: async ({ image }, { folder }) => [...libtorrentProgram, 'fetch', image.stockTorrent, folder],
  },
}
