// Stock BitTorrent clients as commands that speak the lines of participant.ts. DHT, PEX and local discovery are off
// everywhere: the torrents are private, and one tracker knows all.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PublishedImage } from './image.ts'
import { originAddress } from './network.ts'
import type { Endpoint, NodeOptions, World } from './world.ts'

export const trackerPort = 6969
export const stockAnnounce = `http://${originAddress}:${trackerPort}/announce`

/** Debian's opentracker, which takes only torrents that it has been told of. */
export async function openTracker({ image, folder }: World): Promise<string[]> {
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

// Best of what was tried with aria2 1.36 on equal links: seeds for good, more memory for pieces, tracker and peers asked
// often, nothing written but the file.
export const aria2SwarmFlags = [
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
export const aria2TunedFlags = ['--stream-piece-selector=random', '--min-split-size=1M', ...aria2SwarmFlags]

function aria2Endpoint(endpoint: Endpoint | undefined): string[] {
  return endpoint === undefined ? [] : [`--interface=${endpoint.host}`, `--listen-port=${endpoint.port}`]
}

/** aria2c beside the origin, which has the image from the beginning. */
export function aria2Seeder(world: World, endpoint?: Endpoint): string[] {
  const flags = ['--seed-ratio=0.0', '--bt-seed-unverified=true', '--check-integrity=false', '--bt-max-peers=0']
  const where = [...aria2Endpoint(endpoint), `--dir=${world.image.folder}`]
  return readySeeder(['aria2c', ...aria2Private, ...flags, ...where, world.image.stockTorrent].join(' '), world)
}

/** aria2c idles with its RPC open; the gate is the call that adds the download. Its hook reports when it has all pieces. */
export function aria2Node(flags: readonly string[], call: (image: PublishedImage) => Promise<object>) {
  return async ({ image }: World, { folder, endpoint }: NodeOptions): Promise<string[]> => {
    await writeFile(join(folder, 'add.json'), JSON.stringify({ jsonrpc: '2.0', id: '1', ...(await call(image)) }))
    await writeFile(join(folder, 'done.sh'), '#!/bin/sh\necho last\nsync -d "$3"\necho durable\n', { mode: 0o755 })
    const rpcPort = (endpoint?.port ?? 6800) + 100
    const rpc = `http://127.0.0.1:${rpcPort}/jsonrpc`
    const own = ['--enable-rpc=true', `--rpc-listen-port=${rpcPort}`, `--dir=${folder}`, ...aria2Endpoint(endpoint)]
    const command = [
      'aria2c',
      ...aria2Private,
      ...own,
      ...flags,
      `--on-bt-download-complete=${join(folder, 'done.sh')}`,
    ]
    const isUp = untilShell(`curl -s -o answer -d '{"jsonrpc":"2.0","id":"1","method":"aria2.getVersion"}' ${rpc}`)
    const add = `curl -s -o answer -d @add.json ${rpc}`
    return ['sh', '-c', `${command.join(' ')} & ${isUp}; echo ready; read -r _; ${add}; wait`]
  }
}

export async function addMetalink(image: PublishedImage): Promise<object> {
  return { method: 'aria2.addMetalink', params: [(await readFile(image.stockMetalink)).toString('base64')] }
}

export async function addTorrent(image: PublishedImage): Promise<object> {
  return { method: 'aria2.addTorrent', params: [(await readFile(image.stockTorrent)).toString('base64')] }
}

// Debian's Python: its library is for no other.
const libtorrentProgram = ['/usr/bin/python3', join(import.meta.dirname, 'libtorrent-node.py')]

function libtorrentEndpoint(endpoint: Endpoint | undefined): string[] {
  return endpoint === undefined ? [] : [`${endpoint.host}:${endpoint.port}`]
}

export function libtorrentSeeder(world: World, endpoint?: Endpoint): string[] {
  const { stockTorrent, folder } = world.image
  return readySeeder(
    [...libtorrentProgram, 'seed', stockTorrent, folder, ...libtorrentEndpoint(endpoint)].join(' '),
    world,
  )
}

export async function libtorrentNode({ image }: World, { folder, endpoint }: NodeOptions): Promise<string[]> {
  return [...libtorrentProgram, 'fetch', image.stockTorrent, folder, ...libtorrentEndpoint(endpoint)]
}
