// The methods that are compared: what runs at the origin and what runs on each node, as commands that speak the lines of
// participant.ts.
import { join } from 'node:path'
import { pieceCount } from '../../src/model/swarm.ts'
import type { MethodName } from './arguments.ts'
import { originAddress } from './network.ts'
import {
  addMetalink,
  addTorrent,
  aria2Node,
  aria2Seeder,
  aria2SwarmFlags,
  aria2TunedFlags,
  libtorrentNode,
  libtorrentSeeder,
  openTracker,
} from './stock.ts'
import type { Method, NodeOptions, World } from './world.ts'

const here = import.meta.dirname
export const originPort = 7780
export const originBase = `http://${originAddress}:${originPort}`

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
  return async ({ image, diskMbit }: World, { name, folder, isCorruptible, endpoint }: NodeOptions) => {
    const options = {
      engine,
      name,
      url: image.url,
      torrent: image.torrent,
      announce: `${originBase}/announce`,
      output: join(folder, 'image.zst'),
      ...(diskMbit === undefined ? {} : { 'disk-mbit': diskMbit }),
      ...(endpoint === undefined ? {} : { listen: endpoint.host, port: endpoint.port }),
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

export const methods: { readonly [name in MethodName]: Method } = {
  swarm: { origin: none, node: ourNode('swarm') },
  http: { origin: none, node: async ({ image }) => curlNode(image.url) },
  'http-node': { origin: none, node: ourNode('http') },
  'aria2-paper': { origin: async (world) => [await openTracker(world)], node: aria2Node([], addMetalink) },
  'aria2-tuned': { origin: async (world) => [await openTracker(world)], node: aria2Node(aria2TunedFlags, addMetalink) },
  'aria2-swarm': {
    origin: async (world) => [await openTracker(world), aria2Seeder(world)],
    node: aria2Node(aria2SwarmFlags, addTorrent),
  },
  libtorrent: { origin: async (world) => [await openTracker(world), libtorrentSeeder(world)], node: libtorrentNode },
}
