// What one bad node, or the world around a swarm, does to the others: next to nothing. Each world is a whole swarm on
// loopback whose origin is so slow that the fault comes in the middle.
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { listenForPeers } from './peer-listener.ts'
import { rawPeer } from './peer-testing.ts'
import type { PieceReader } from './piece-reader.ts'
import { Swarm, type SwarmOptions } from './swarm.ts'
import { openSwarm, type TestSwarm, takeAll, torrentOf } from './testing.ts'

const bytes = randomBytes(8_000_001)
const torrent = torrentOf(bytes)
const { pieceBytes } = torrent.info
const originBytesPerSecond = 4_000_000
/** What a fault may cost the others beside a clean run: detours of seconds, on a machine that is busy with more. */
const costMsMax = 6000
const soon = { timeoutMs: 20_000, everyMs: 10 }

const opened: TestSwarm[] = []
async function open() {
  const world = await openSwarm(bytes, { originBytesPerSecond })
  opened.push(world)
  return world
}
afterEach(async () => {
  vi.restoreAllMocks()
  await Promise.all(opened.splice(0).map((world) => world.close()))
})

/** Hosts n0, n1, ... stand in this order in the pipeline. `options` are of the host of that number. */
async function joinAll(world: TestSwarm, count: number, options: Readonly<Record<number, Partial<SwarmOptions>>> = {}) {
  return await Promise.all(Array.from({ length: count }, (_, n) => world.join(`n${n}`, options[n])))
}

/** Milliseconds until all of these have the whole image. */
async function timed(swarms: readonly Swarm[]): Promise<number> {
  const begun = performance.now()
  const images = await Promise.all(swarms.map((swarm) => takeAll(swarm, bytes)))
  const tookMs = performance.now() - begun
  for (const image of images) expect(image.equals(bytes)).toBe(true)
  return tookMs
}

let cleanRun: Promise<number> | undefined
/** The same swarm without any fault, once. */
function cleanMs(): Promise<number> {
  cleanRun ??= open().then(async (world) => await timed(await joinAll(world, 4)))
  return cleanRun
}

/** Changes what this agent gives to others. To be called before any other is connected. */
function giveInstead(
  swarm: Swarm,
  give: (piece: number, reader: PieceReader) => ReturnType<PieceReader['read']>,
): void {
  const { reader } = swarm.wire
  const changed: PieceReader = {
    has: (piece) => reader.has(piece),
    bitfield: () => reader.bitfield(),
    read: (piece) => give(piece, reader),
  }
  Object.assign(swarm.wire, { reader: changed })
}

const idOf = (swarm: Swarm | undefined) => swarm?.wire.peerId.toString('hex') ?? ''
const othersThan = (bad: number, swarms: readonly Swarm[]) => swarms.filter((_, n) => n !== bad)

describe('one bad agent costs itself only', () => {
  test('that lies: who was lied to never asks it again and tells the tracker', async () => {
    const clean = await cleanMs()
    const world = await open()
    const swarms = await joinAll(world, 4)
    const [, liar] = swarms
    if (liar === undefined) throw new Error('there are four agents')
    let lies = 0
    giveInstead(liar, async (piece, reader) => {
      const given = Buffer.from(await reader.read(piece))
      if (piece < 100) return given
      lies += 1
      given.writeUInt8(given.readUInt8(0) ^ 0xff, 0)
      return given
    })
    const tookMs = await timed(othersThan(1, swarms))
    expect(lies).toBeGreaterThan(0)
    const told = world.log.flatMap(
      (line) => /^n(\d): agent \S+ sent piece \d+ with a wrong hash$/.exec(line)?.[1] ?? [],
    )
    const victims = [...new Set(told)].map((number) => swarms[Number(number)])
    expect(victims.length).toBeGreaterThan(0)
    // What was on its way when the first lie was found out may be lies too.
    expect(told.length).toBeLessThanOrEqual(4 * victims.length)
    const again = { peerId: idOf(liar), direction: 'incoming', ip: '127.0.0.1', port: 1 } as const
    for (const victim of victims) expect(victim?.wire.refuse(again)).toBe('it has sent pieces with wrong hashes')
    expect(world.tracker.complaints).toContain(idOf(liar))
    expect(world.origin.sentBytes).toBeLessThanOrEqual(1.3 * bytes.length)
    expect(tookMs).toBeLessThan(clean + costMsMax)
    // It is no worse off itself.
    expect(await timed([liar])).toBeLessThan(costMsMax)
  })

  test('that lies from the head of the line: the next one goes to the origin', async () => {
    const clean = await cleanMs()
    const world = await open()
    const swarms = await joinAll(world, 4)
    const [liar] = swarms
    if (liar === undefined) throw new Error('there are four agents')
    giveInstead(liar, async (piece, reader) => Buffer.from(await reader.read(piece)).fill(0))
    expect(await timed(othersThan(0, swarms))).toBeLessThan(2 * clean + costMsMax)
    expect(world.origin.sentBytes).toBeLessThanOrEqual(2.1 * bytes.length)
    expect(world.tracker.complaints).toContain(idOf(liar))
  })

  test('that stalls in the middle, its connections open', async () => {
    const clean = await cleanMs()
    const world = await open()
    const swarms = await joinAll(world, 4)
    const [, mute] = swarms
    if (mute === undefined) throw new Error('there are four agents')
    const never = new Promise<Buffer>(() => {})
    giveInstead(mute, (piece, reader) => (piece < 100 ? reader.read(piece) : never))
    expect(await timed(othersThan(1, swarms))).toBeLessThan(clean + costMsMax)
    expect(world.origin.sentBytes).toBeLessThanOrEqual(1.3 * bytes.length)
  })

  test('whose disk is slower than the link', async () => {
    const clean = await cleanMs()
    const world = await open()
    const budgetBytes = 512 * 1024
    const swarms = await joinAll(world, 4, { 1: { budgetBytes } })
    const [, slow] = swarms
    if (slow === undefined) throw new Error('there are four agents')
    let written = 0
    let ramBytesMax = 0
    const closing = new AbortController()
    const writing = (async () => {
      for await (const piece of slow.pieces()) {
        ramBytesMax = Math.max(ramBytesMax, slow.progress().ramBytes)
        await delay((pieceBytes * 1000) / 500_000, undefined, { signal: closing.signal })
        slow.release(piece)
        written += 1
      }
    })()
    const ended = writing.catch(() => 'ended')
    const tookMs = await timed(othersThan(1, swarms))
    expect(written).toBeLessThan(bytes.length / pieceBytes / 2)
    expect(ramBytesMax).toBeLessThanOrEqual(budgetBytes + pieceBytes)
    expect(tookMs).toBeLessThan(clean + costMsMax)
    expect(world.origin.sentBytes).toBeLessThanOrEqual(1.5 * bytes.length)
    closing.abort()
    expect(await ended).toBe('ended')
  })

  test('whose disk fails in the middle, so that it leaves', async () => {
    const clean = await cleanMs()
    const world = await open()
    const swarms = await joinAll(world, 4)
    const broken = (async () => {
      for await (const piece of swarms[1]?.pieces() ?? []) if (piece > 100) break
      await swarms[1]?.close()
    })()
    const tookMs = await timed(othersThan(1, swarms))
    await broken
    expect(tookMs).toBeLessThan(clean + costMsMax)
    expect(world.origin.sentBytes).toBeLessThanOrEqual(1.3 * bytes.length)
  })

  test('that resets whoever connects to it', async () => {
    const clean = await cleanMs()
    const world = await open()
    let resets = 0
    const port = await listenRaw((socket) => {
      resets += 1
      socket.resetAndDestroy()
    })
    // It comes first, so that it stands before the others.
    await announceAs(world, 'a', port)
    expect(await timed(await joinAll(world, 3))).toBeLessThan(clean + costMsMax)
    expect(resets).toBeGreaterThan(0)
  })

  test('that holds connections open without a word', async () => {
    const clean = await cleanMs()
    const world = await open()
    const swarms = await joinAll(world, 3)
    const ports = swarms.map(({ port }) => port)
    const silent = await Promise.all(ports.flatMap((port) => Array.from({ length: 50 }, () => rawPeer(port))))
    onTestFinished(() => {
      for (const { socket } of silent) socket.destroy()
    })
    expect(await timed(swarms)).toBeLessThan(clean + costMsMax)
  })

  test('with the peer id of another: the tracker turns it away and the web seed gives it everything', async () => {
    const world = await open()
    const swarms = await joinAll(world, 2)
    await until('both to be under way', () => swarms.every((one) => one.progress().verifiedBytes > 0), soon)
    const twin = await joinWithIdOf(swarms[0], world)
    await timed([...swarms, twin])
    expect(world.log).toContainEqual(expect.stringMatching(/^twin: .*has the peer id/))
    expect(twin.progress().fromOriginBytes).toBe(bytes.length)
    expect(world.origin.sentBytes).toBeLessThanOrEqual(2.1 * bytes.length)
  })
})

async function listenRaw(onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => onSocket(socket.on('error', () => undefined)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** Tells the tracker of an agent that is none. */
async function announceAs(world: TestSwarm, host: string, port: number): Promise<void> {
  const counts = { uploaded: '0', downloaded: '0', left: '1', compact: '1', hades: '1', have: '0', rate: '0', lag: '0' }
  const query = new URLSearchParams({ port: String(port), ...counts })
  const infoHash = torrent.infoHash.replaceAll(/../g, '%$&')
  const url = `${world.tracker.url}?info_hash=${infoHash}&peer_id=-HD0100-aaaaaaaaaaaa&${query.toString()}`
  const answer = await fetch(url, { headers: { authorization: `Bearer ${host}` } })
  expect(await answer.text()).not.toContain('failure reason')
}

/** An agent whose peer id is not its own. */
async function joinWithIdOf(other: Swarm | undefined, world: TestSwarm): Promise<Swarm> {
  const peerId = Buffer.from(other?.wire.peerId ?? [])
  const wires = new Map<string, Swarm['wire']>()
  const listener = await listenForPeers({ host: '127.0.0.1', port: 0, swarms: wires })
  const options: SwarmOptions = {
    torrent,
    webSeeds: [world.origin.url],
    tracker: { url: world.tracker.url, token: new Secret('twin') },
    listen: { host: '127.0.0.1', port: 0 },
    budgetBytes: 2 * bytes.length,
    client: 'HaDeS test',
    log: (line) => world.log.push(`twin: ${line}`),
  }
  const swarm = new Swarm(options, { peerId, listener })
  wires.set(torrent.infoHash, swarm.wire)
  swarm.begin()
  onTestFinished(() => swarm.close())
  return swarm
}

describe('the world around the swarm', () => {
  test('a clock of the machine that jumps by years, forth and back, neither ends a wait nor makes one endless', async () => {
    const clean = await cleanMs()
    const world = await open()
    const swarms = await joinAll(world, 4)
    const [, mute] = swarms
    if (mute === undefined) throw new Error('there are four agents')
    const never = new Promise<Buffer>(() => {})
    // It is after the last jump that somebody must lose patience.
    giveInstead(mute, (piece, reader) => (piece * pieceBytes < bytes.length / 2 ? reader.read(piece) : never))
    const { now } = Date
    const year = 365 * 24 * 3600 * 1000
    const jump = vi.spyOn(Date, 'now')
    const ended = timed(othersThan(1, swarms))
    for (const [index, years] of [5, -20].entries()) {
      const enough = ((index + 1) * bytes.length) / 8
      await until('some more to have come', () => swarms.every((one) => one.progress().verifiedBytes > enough), soon)
      jump.mockImplementation(() => now() + years * year)
    }
    expect(await ended).toBeLessThan(clean + costMsMax)
    expect(world.origin.sentBytes).toBeLessThanOrEqual(1.3 * bytes.length)
  })

  test('nobody who waits reads that clock: only lines of a log and dates in HTTP are of it', async () => {
    const folders = ['swarm', 'agent'].map((name) => join(import.meta.dirname, '..', name))
    const readers: string[] = []
    for (const folder of folders) {
      for (const name of await readdir(folder)) {
        if (!name.endsWith('.ts') || name.endsWith('.test.ts')) continue
        const text = await readFile(join(folder, name), 'utf8')
        if (/\bDate\.now\b|\bnew Date\(\)/.test(text)) readers.push(name)
      }
    }
    expect(readers.toSorted()).toEqual(['log.ts', 'range-connection.ts'])
  })

  test('the whole service, origin and tracker, is restarted in the middle: everybody goes on where they were', async () => {
    const world = await open()
    const swarms = await joinAll(world, 3)
    const ended = timed(swarms)
    await until('all to be under way', () => swarms.every((one) => one.progress().verifiedBytes > 1_000_000), soon)
    world.origin.isAway = true
    await world.tracker.restart()
    await until('the loss to be noticed', () => world.origin.refused > 0, soon)
    world.origin.isAway = false
    await ended
    expect(world.origin.sentBytes).toBeLessThanOrEqual(1.5 * bytes.length)
  })

  test('an image that is gone for good is a failure in words when nothing has come for five minutes', async () => {
    const world = await open()
    const swarm = await world.join('n0')
    const taken = takeAll(swarm, bytes)
    taken.catch(() => {})
    await until('it to be under way', () => swarm.progress().verifiedBytes > 1_000_000, soon)
    world.origin.isAway = true
    await until('the loss to be noticed', () => world.origin.refused > 0, soon)
    const now = performance.now.bind(performance)
    vi.spyOn(performance, 'now').mockImplementation(() => now() + 301_000)
    await expect(taken).rejects.toMatchObject({
      code: 'origin-unreachable',
      message: 'nothing came for 300 s, from no source',
    })
  })

  test('hosts with memory for a tenth of the image pass it on all the same', async () => {
    const clean = await cleanMs()
    const world = await open()
    const budgetBytes = 800_000
    const swarms = await joinAll(world, 3, { 0: { budgetBytes }, 1: { budgetBytes }, 2: { budgetBytes } })
    const begun = performance.now()
    const ramBytesMax = await Promise.all(
      swarms.map(async (swarm) => {
        let most = 0
        for await (const piece of swarm.pieces()) {
          const at = piece * pieceBytes
          const part = await swarm.read(at, Math.min(pieceBytes, bytes.length - at))
          expect(part.equals(bytes.subarray(at, at + part.length))).toBe(true)
          swarm.release(piece)
          most = Math.max(most, swarm.progress().ramBytes)
        }
        return most
      }),
    )
    expect(performance.now() - begun).toBeLessThan(clean + costMsMax)
    expect(Math.max(...ramBytesMax)).toBeLessThanOrEqual(budgetBytes + pieceBytes)
    expect(world.origin.sentBytes).toBeLessThanOrEqual(1.5 * bytes.length)
  })
})
