// Our peer beside the clients that everybody has: aria2, libtorrent and transmission, each as one that takes from us and as
// one that gives to us.
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../lib/free-port.ts'
import { until } from '../lib/until.ts'
import { pieceCount, pieceLength } from '../model/swarm.ts'
import { encodeTorrent, infoHashOf, type TorrentInfo } from '../protocol/torrent.ts'
import { connectPeer, type PeerListener } from './peer-listener.ts'
import { closeAll, listenFor, MemoryPieces, type TestSwarm, testSwarm } from './peer-testing.ts'

const name = 'image.zst'
const pieceBytes = 256 * 1024
const bytes = randomBytes(6 * 1024 * 1024 + 777)
const sha1 = createHash('sha1').update(bytes).digest('hex')
/** Transmission looks every ten seconds whom it wants to ask and whom to serve. */
const soon = { timeoutMs: 25_000, everyMs: 20 }

let folder: string
let tracker: { server: Server; port: number; peers: number[]; announced: number[] }
let infoHash: Buffer
const running: ChildProcess[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peer-stock-'))
  tracker = await startTracker()
  const geometry = { totalBytes: bytes.length, pieceBytes }
  const hashes = Array.from({ length: pieceCount(geometry) }, (_, piece) => {
    const begin = piece * pieceBytes
    return createHash('sha1')
      .update(bytes.subarray(begin, begin + pieceLength(geometry, piece)))
      .digest()
  })
  const info: TorrentInfo = { name, ...geometry, pieceHashes: Buffer.concat(hashes) }
  infoHash = Buffer.from(infoHashOf(info), 'hex')
  const announce = [`http://127.0.0.1:${tracker.port}/announce`]
  await writeFile(join(folder, 'image.torrent'), encodeTorrent({ info, announce, webSeeds: [] }))
})

afterEach(async () => {
  await Promise.all(running.splice(0).map(stop))
  tracker.peers = []
  tracker.announced = []
})

afterAll(async () => {
  await new Promise((resolve) => tracker.server.close(resolve))
  await rm(folder, { recursive: true, force: true })
})

/** A tracker that names `peers` to everybody and writes down who asks. */
async function startTracker() {
  const server = createServer((request, response) => {
    const port = Number(new URL(request.url ?? '', 'http://x').searchParams.get('port'))
    world.announced.push(port)
    const peers = Buffer.concat(world.peers.map((peer) => Buffer.of(127, 0, 0, 1, peer >> 8, peer & 0xff)))
    response.end(Buffer.concat([Buffer.from(`d8:intervali60e5:peers${peers.length}:`), peers, Buffer.from('e')]))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const world = { server, port, peers: [] as number[], announced: [] as number[] }
  return world
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
}

type Role = 'seed' | 'leech'

/** Starts a client in a folder of its own. `port` is where it listens, once it does; `connectTo` is our port. */
type Client = (role: Role, into: string, connectTo: number) => Promise<{ port: () => number | undefined }>

function start(command: string, parameters: string[]): ChildProcess {
  const child = spawn(command, parameters, { stdio: ['pipe', 'pipe', 'ignore'] })
  running.push(child)
  child.on('error', () => {})
  return child
}

const torrent = () => join(folder, 'image.torrent')

const aria2: Client = async (role, into, connectTo) => {
  tracker.peers = [connectTo]
  const port = await freePort()
  const always = ['--no-conf', '--enable-dht=false', '--enable-dht6=false', '--bt-enable-lpd=false']
  const seeds = ['--bt-seed-unverified=true', '--seed-ratio=0.0']
  const settings = [
    ...always,
    ...(role === 'seed' ? seeds : ['--seed-time=0']),
    `--listen-port=${port}`,
    `--dir=${into}`,
  ]
  start('aria2c', [...settings, torrent()]).stdout?.resume()
  return { port: () => tracker.announced[0] }
}

const libtorrent: Client = async (role, into, connectTo) => {
  // Debian's own Python: the module is packaged for it alone.
  const script = join(import.meta.dirname, 'testdata/libtorrent-peer.py')
  const connects = role === 'leech' ? [String(connectTo)] : []
  const child = start('/usr/bin/python3', [script, torrent(), into, role, ...connects])
  let text = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  return { port: () => (text.includes('\n') ? Number.parseInt(text, 10) : undefined) }
}

// It takes no addresses of loopback from a tracker, so it is always us who connect.
const transmission: Client = async (_, into) => {
  const port = await freePort()
  const child = start('transmission-cli', [
    '-g',
    `${into}.config`,
    '-w',
    into,
    '-p',
    String(port),
    '-M',
    '-et',
    torrent(),
  ])
  child.stdout?.resume()
  return { port: () => tracker.announced[0] }
}

describe.each([
  { client: 'aria2', run: aria2, says: /aria2/ },
  { client: 'libtorrent', run: libtorrent, says: /libtorrent/ },
  { client: 'transmission', run: transmission, says: /Transmission/ },
])('$client', ({ client, run, says }) => {
  async function connectTo(world: TestSwarm, port: () => number | undefined) {
    const found = await until(`${client} listens`, port, soon)
    return await until(
      'it takes our connection',
      () => connectPeer(world.swarm, { ip: '127.0.0.1', port: found }),
      soon,
    )
  }

  test('takes the whole file from us', async () => {
    const into = join(folder, `${client}-leech`)
    await mkdir(into)
    const world = testSwarm(MemoryPieces.full(bytes, pieceBytes), { infoHash })
    const listener: PeerListener = await listenFor(world)
    const { port } = await run('leech', into, listener.port)
    if (client === 'transmission') await connectTo(world, port)
    const peer = await until('it is our peer', () => world.peers[0], soon)
    expect([peer.kind, peer.client]).toEqual(['stranger', expect.stringMatching(says)])
    const isWhole = async () =>
      createHash('sha1')
        .update(await readFile(join(into, name)))
        .digest('hex') === sha1
    await until('it has everything', isWhole, { ...soon, everyMs: 100 })
    await closeAll(listener, world)
  })

  test('gives the whole file to us', async () => {
    const into = join(folder, `${client}-seed`)
    await mkdir(into)
    await writeFile(join(into, name), bytes)
    const world = testSwarm(new MemoryPieces({ totalBytes: bytes.length, pieceBytes }), { infoHash })
    world.onHave = (peer, pieces) => peer.request(pieces)
    const listener = await listenFor(world)
    const { port } = await run('seed', into, listener.port)
    await connectTo(world, port)
    const all = pieceCount(world.store.geometry)
    await until('we have everything', () => world.store.pieces.size === all, soon)
    expect(world.store.sha1()).toBe(sha1)
    await closeAll(listener, world)
  })
})
