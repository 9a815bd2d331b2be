// A whole swarm on loopback for tests: an origin by ranges, the real tracker over HTTP, and agents that join.
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { Secret } from '../lib/secret.ts'
import { choosePieceBytes, pieceCount } from '../model/swarm.ts'
import { infoHashOf, type TorrentInfo } from '../protocol/torrent.ts'
import { type Seeder, startSeeder } from './seeder.ts'
import { joinSwarm, type Swarm, type SwarmOptions } from './swarm.ts'
import { Tracker } from './tracker.ts'
import { type Admission, type Asking, addTrackerRoutes } from './tracker-routes.ts'

export function torrentOf(bytes: Buffer, pieceBytes = choosePieceBytes(bytes.length)): SwarmOptions['torrent'] {
  const count = pieceCount({ totalBytes: bytes.length, pieceBytes })
  const hashes = Array.from({ length: count }, (_, piece) =>
    createHash('sha1')
      .update(bytes.subarray(piece * pieceBytes, (piece + 1) * pieceBytes))
      .digest(),
  )
  const info: TorrentInfo = {
    name: 'image.zst',
    totalBytes: bytes.length,
    pieceBytes,
    pieceHashes: Buffer.concat(hashes),
  }
  return { info, infoHash: infoHashOf(info), announce: [], webSeeds: [] }
}

export type TestSwarm = {
  /** `isAway`: it hangs up; `isGone`: it says that it has no such file. */
  readonly origin: { readonly url: string; sentBytes: number; isAway: boolean; isGone: boolean; refused: number }
  readonly tracker: {
    readonly url: string
    /** Peer ids that agents have complained of, as told in their announces. */
    readonly complaints: Set<string>
    restart: () => Promise<void>
    stop: () => Promise<void>
  }
  /** An agent of the host of this name, as `n1` or `turin/n1`, which is its token too. */
  readonly join: (host: string, options?: Partial<SwarmOptions>) => Promise<Swarm>
  readonly log: string[]
  readonly close: () => Promise<void>
}

type WorldOptions = {
  readonly pieceBytes?: number
  /** Keeps the origin so slow that a transfer lasts. */
  readonly originBytesPerSecond?: number
  /** What the origin serves, when it is not the image. */
  readonly served?: Buffer
  /** The address of everything. */
  readonly host?: string
  /** The image's file: stock clients are let in, and are told of a seeder that has it. */
  readonly seeded?: string
}

export async function openSwarm(bytes: Buffer, options: WorldOptions = {}): Promise<TestSwarm> {
  const { served = bytes, originBytesPerSecond = Number.POSITIVE_INFINITY, host: address = '127.0.0.1' } = options
  const torrent = torrentOf(bytes, options.pieceBytes)
  const log: string[] = []
  const swarms = new Set<Swarm>()

  const origin = await openOrigin(served, originBytesPerSecond, address)
  const seeder = options.seeded === undefined ? undefined : await openSeeder(torrent, options.seeded, address)
  const complaints = new Set<string>()
  const open = (port: number) => openTracker({ torrent, seeder, complaints, log, host: address, port })
  let app = await open(0)
  const port = (app.server.address() as AddressInfo).port
  const url = `http://${address}:${port}/announce`

  return {
    origin,
    log,
    tracker: {
      url,
      complaints,
      stop: () => app.close(),
      restart: async () => {
        await app.close()
        app = await open(port)
      },
    },
    join: async (host, own = {}) => {
      const swarm = await joinSwarm({
        torrent,
        webSeeds: [origin.url],
        tracker: { url, token: new Secret(host) },
        listen: { host: address, port: 0 },
        budgetBytes: 256 * 1024 * 1024,
        client: 'HaDeS test',
        log: (line) => log.push(`${host}: ${line}`),
        ...own,
      })
      swarms.add(swarm)
      return swarm
    },
    close: async () => {
      await Promise.all([...swarms].map((swarm) => swarm.close()))
      await app.close()
      await seeder?.close()
      origin.close()
    },
  }
}

/** The real one; whoever has a token is the host of that name, at the site before its slash. */
async function openTracker(options: {
  readonly torrent: SwarmOptions['torrent']
  readonly seeder: Seeder | undefined
  readonly complaints: Set<string>
  readonly log: string[]
  readonly host: string
  readonly port: number
}) {
  const { torrent, seeder, complaints, log, host, port } = options
  const admit = async ({ token, infoHash }: Asking): Promise<Admission> => {
    const isKnown = infoHash === torrent.infoHash && (token !== undefined || seeder !== undefined)
    if (!isKnown) return { kind: 'refused', reason: 'not one of ours' }
    const kind = token === undefined ? 'stranger' : 'agent'
    const site = token?.includes('/') ? token.slice(0, token.indexOf('/')) : undefined
    return { kind, host: token, site, rack: undefined, pieces: pieceCount(torrent.info) }
  }
  const app = fastify({ forceCloseConnections: true })
  app.addHook('onRequest', async ({ url }) => {
    const slow = /[?&]slow=([0-9a-f,%C]*)/.exec(url)?.[1] ?? ''
    for (const id of slow.split(/,|%2C/)) if (id !== '') complaints.add(id)
  })
  addTrackerRoutes(app, {
    tracker: new Tracker({
      firstVersion: Math.floor(performance.now()),
      limits: { agentIntervalMs: 200 },
      originOf: (infoHash) => seeder?.peerOf(infoHash),
    }),
    admit,
    onError: (error) => log.push(`tracker: ${String(error)}`),
    limits: { perSecond: 10_000, burst: 10_000 },
  })
  await app.listen({ host, port })
  return app
}

async function openSeeder({ info, infoHash }: SwarmOptions['torrent'], path: string, host: string): Promise<Seeder> {
  const seeder = await startSeeder({ host, port: 0, client: 'HaDeS test seeder' })
  await seeder.open(infoHash, { path, geometry: info })
  return seeder
}

/** Serves `served` by ranges, and counts what it sends. */
async function openOrigin(served: Buffer, originBytesPerSecond: number, host: string) {
  const origin = { url: '', sentBytes: 0, isAway: false, isGone: false, refused: 0 }
  let busyUntil = 0
  const server = createServer((request, response) => {
    if (origin.isAway) {
      origin.refused += 1
      request.socket.destroy()
      return
    }
    if (origin.isGone) {
      response.writeHead(404).end('no such image')
      return
    }
    const [, from = '0', to = ''] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? []
    const end = to === '' ? served.length - 1 : Number(to)
    response.writeHead(206, {
      'content-length': end + 1 - Number(from),
      'content-range': `bytes ${from}-${end}/${served.length}`,
    })
    const sendFrom = (at: number) => {
      if (response.destroyed) return
      if (origin.isAway || origin.isGone) {
        response.destroy()
        return
      }
      const part = served.subarray(at, Math.min(at + 16_384, end + 1))
      if (part.length === 0) {
        response.end()
        return
      }
      origin.sentBytes += part.length
      busyUntil = Math.max(busyUntil, performance.now()) + (part.length * 1000) / originBytesPerSecond
      response.write(part)
      setTimeout(() => sendFrom(at + part.length), Math.max(0, busyUntil - performance.now()))
    }
    if (originBytesPerSecond === Number.POSITIVE_INFINITY) {
      origin.sentBytes += end + 1 - Number(from)
      response.end(served.subarray(Number(from), end + 1))
    } else sendFrom(Number(from))
  })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  // A server that listens on TCP has a numeric port.
  origin.url = `http://${host}:${(server.address() as AddressInfo).port}/image.zst`
  const close = () => {
    server.closeAllConnections()
    server.close()
  }
  return Object.assign(origin, { close })
}

/** Takes every piece and reads the image; throws when one came twice. */
export async function takeAll(swarm: Swarm, bytes: Buffer): Promise<Buffer> {
  const taken = new Set<number>()
  for await (const piece of swarm.pieces()) {
    if (taken.has(piece)) throw new Error(`piece ${piece} came twice`)
    taken.add(piece)
  }
  return swarm.read(0, bytes.length)
}
