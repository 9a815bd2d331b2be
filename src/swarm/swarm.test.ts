import { randomBytes } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { openSwarm, type TestSwarm, takeAll } from './testing.ts'

const bytes = randomBytes(8_000_001)
let world: TestSwarm | undefined

async function open(...options: Parameters<typeof openSwarm> extends [Buffer, ...infer Rest] ? Rest : never) {
  world = await openSwarm(bytes, ...options)
  return world
}

afterEach(async () => {
  await world?.close()
})

function names(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `n${index}`)
}

test('alone and without a tracker, an agent takes the whole image from the web seed, once', async () => {
  const { join, origin } = await open()
  const swarm = await join('n0', { tracker: undefined })
  expect((await takeAll(swarm, bytes)).equals(bytes)).toBe(true)
  expect(origin.sentBytes).toBe(bytes.length)
  expect(swarm.progress()).toMatchObject({
    verifiedBytes: bytes.length,
    fromOriginBytes: bytes.length,
    fromPeersBytes: 0,
  })
})

test('eight agents take one copy out of the origin', async () => {
  const { join, origin } = await open({ originBytesPerSecond: 4_000_000 })
  const swarms = await Promise.all(names(8).map((name) => join(name)))
  const images = await Promise.all(swarms.map((swarm) => takeAll(swarm, bytes)))
  for (const image of images) expect(image.equals(bytes)).toBe(true)
  expect(origin.sentBytes).toBeLessThanOrEqual(1.05 * bytes.length)
  const peersBytes = swarms.map((swarm) => swarm.progress().fromPeersBytes)
  expect(peersBytes.filter((got) => got >= 0.9 * bytes.length).length).toBe(7)
})

describe('never worse than HTTP', () => {
  test('when there is no tracker at its address', async () => {
    const { join } = await open()
    const swarm = await join('n0', { tracker: { url: 'http://127.0.0.1:9/announce', token: new Secret('n0') } })
    expect((await takeAll(swarm, bytes)).equals(bytes)).toBe(true)
  })

  test('when the tracker refuses us', async () => {
    const { join, tracker } = await open()
    const swarm = await join('n0', { tracker: { url: `${tracker.url}?key=1`, token: new Secret('n0') } })
    expect((await takeAll(swarm, bytes)).equals(bytes)).toBe(true)
  })

  test('when the tracker goes away in the middle', async () => {
    const { join, tracker, origin } = await open({ originBytesPerSecond: 3_000_000 })
    const swarms = await Promise.all(names(3).map((name) => join(name)))
    const images = Promise.all(swarms.map((swarm) => takeAll(swarm, bytes)))
    await until('everybody to have begun', () => swarms.every((swarm) => swarm.progress().verifiedBytes > 1_000_000), {
      timeoutMs: 20_000,
    })
    await tracker.stop()
    for (const image of await images) expect(image.equals(bytes)).toBe(true)
    // They go on as they were told last.
    expect(origin.sentBytes).toBeLessThanOrEqual(1.2 * bytes.length)
  })

  test('when the tracker restarts in the middle', async () => {
    const { join, tracker, origin } = await open({ originBytesPerSecond: 3_000_000 })
    const swarms = await Promise.all(names(3).map((name) => join(name)))
    const images = Promise.all(swarms.map((swarm) => takeAll(swarm, bytes)))
    await until('everybody to have begun', () => swarms.every((swarm) => swarm.progress().verifiedBytes > 1_000_000), {
      timeoutMs: 20_000,
    })
    await tracker.restart()
    for (const image of await images) expect(image.equals(bytes)).toBe(true)
    expect(origin.sentBytes).toBeLessThanOrEqual(1.5 * bytes.length)
  })
})

test('the origin goes away in the middle and comes back: nobody fails', async () => {
  const { join, origin } = await open({ originBytesPerSecond: 4_000_000 })
  const swarms = await Promise.all(names(3).map((name) => join(name)))
  const images = Promise.all(swarms.map((swarm) => takeAll(swarm, bytes)))
  await until('the transfer to be under way', () => origin.sentBytes > 2_000_000, { timeoutMs: 20_000 })
  origin.isAway = true
  await until('the loss to be noticed', () => origin.refused > 0, { timeoutMs: 20_000 })
  origin.isAway = false
  for (const image of await images) expect(image.equals(bytes)).toBe(true)
})

test('the head dies: the next one takes over at the web seed and the others go on', async () => {
  const { join, origin } = await open({ originBytesPerSecond: 3_000_000 })
  const swarms = await Promise.all(names(4).map((name) => join(name)))
  const [head, ...others] = swarms
  const images = Promise.all(others.map((swarm) => takeAll(swarm, bytes)))
  await until('the others to have begun', () => others.every((swarm) => swarm.progress().fromPeersBytes > 500_000), {
    timeoutMs: 20_000,
  })
  await head?.close()
  for (const image of await images) expect(image.equals(bytes)).toBe(true)
  expect(origin.sentBytes).toBeLessThanOrEqual(1.3 * bytes.length)
})

test('an agent that accepts and says nothing costs the others a moment only', async () => {
  const { join, tracker } = await open({ originBytesPerSecond: 4_000_000 })
  const sockets: Socket[] = []
  const silent = createServer((socket) => sockets.push(socket.on('error', () => undefined)))
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const { port } = silent.address() as { port: number }
  try {
    // `a` comes first, so that it stands before the others.
    const query = new URLSearchParams({ port: String(port), uploaded: '0', downloaded: '0', left: '1', compact: '1' })
    const { infoHash } = (await import('./testing.ts')).torrentOf(bytes)
    const raw = infoHash.replaceAll(/../g, '%$&')
    await fetch(
      `${tracker.url}?info_hash=${raw}&peer_id=-HD0100-aaaaaaaaaaaa&${query.toString()}&hades=1&have=0&rate=0&lag=0`,
      {
        headers: { authorization: 'Bearer a' },
      },
    )
    const swarms = await Promise.all(names(3).map((name) => join(name)))
    const images = await Promise.all(swarms.map((swarm) => takeAll(swarm, bytes)))
    for (const image of images) expect(image.equals(bytes)).toBe(true)
  } finally {
    for (const socket of sockets) socket.destroy()
    silent.close()
  }
})

test('an origin that serves another image under this torrent is found out', async () => {
  const { join } = await open({ served: randomBytes(bytes.length) })
  const swarm = await join('n0')
  await expect(takeAll(swarm, bytes)).rejects.toMatchObject({ code: 'image-corrupt' })
})

test('an image that is removed in the middle ends the swarm in seconds, and the reason is told', async () => {
  const { join, origin } = await open({ originBytesPerSecond: 4_000_000 })
  const swarm = await join('n0')
  const ended = takeAll(swarm, bytes)
  const failed = expect(ended).rejects.toMatchObject({
    code: 'origin-error',
    message: 'the image is gone from the origin, and no host has the rest',
    cause: { message: expect.stringContaining('the origin answered 404 Not Found: no such image') },
  })
  await until('some of it to be here', () => swarm.progress().verifiedBytes > 1_000_000, { timeoutMs: 10_000 })
  origin.isGone = true
  await failed
}, 30_000)

test('one that is complete stays for who still takes from it, and goes when nobody does', async () => {
  const { join } = await open({ originBytesPerSecond: 20_000_000 })
  const first = await join('n0')
  await takeAll(first, bytes)
  const second = await join('n1', { ingressBytesPerSecond: 4_000_000, webSeeds: [] })
  const image = takeAll(second, bytes)
  await until('the second to take from the first', () => second.progress().fromPeersBytes > 0, { timeoutMs: 10_000 })
  await first.linger({ maxMs: 30_000, signal: AbortSignal.timeout(30_000) })
  expect((await image).equals(bytes)).toBe(true)
  const begun = performance.now()
  await second.linger({ maxMs: 30_000, signal: AbortSignal.timeout(30_000) })
  expect(performance.now() - begun).toBeLessThan(10_000)
})

test.each([
  { cap: 'egress', turin: { siteEgressBytesPerSecond: 4_000_000 }, milan: { webSeeds: [] } },
  { cap: 'ingress', turin: {}, milan: { siteIngressBytesPerSecond: 4_000_000 } },
])('the $cap of a site holds for what crosses its border, and for nothing inside', async ({ turin, milan }) => {
  const { join } = await open()
  const here = await Promise.all(['turin/n0', 'turin/n1'].map((host) => join(host, turin)))
  const begun = performance.now()
  await Promise.all(here.map((swarm) => takeAll(swarm, bytes)))
  const insideMs = performance.now() - begun
  const there = await join('milan/n2', milan)
  expect((await takeAll(there, bytes)).equals(bytes)).toBe(true)
  const acrossMs = performance.now() - begun - insideMs
  // 8 MB at 4 MB/s, less the tenth of a second that a bucket lets through at once.
  expect(acrossMs).toBeGreaterThan(1700)
  expect(insideMs).toBeLessThan(1700)
})

test('memory for a tenth of the image is enough when what was used is released', async () => {
  const { join } = await open()
  const swarm = await join('n0', { budgetBytes: 800_000, tracker: undefined })
  let ramBytesMax = 0
  let sum = 0
  for await (const piece of swarm.pieces()) {
    const length = Math.min(16_384, bytes.length - piece * 16_384)
    const part = await swarm.read(piece * 16_384, length)
    expect(part.equals(bytes.subarray(piece * 16_384, piece * 16_384 + length))).toBe(true)
    sum += length
    ramBytesMax = Math.max(ramBytesMax, swarm.progress().ramBytes)
    swarm.release(piece)
  }
  expect(sum).toBe(bytes.length)
  expect(ramBytesMax).toBeLessThanOrEqual(800_000 + 16_384)
})

describe('hosts that have most of the image', () => {
  const pieceBytes = 16_384
  const pieces = Math.ceil(bytes.length / pieceBytes)
  const few = new Set([3, 4, 5, 200, 201, pieces - 1])

  /** Takes what comes, and checks it. */
  const takeSome = async (swarm: Awaited<ReturnType<TestSwarm['join']>>): Promise<number[]> => {
    const taken: number[] = []
    for await (const piece of swarm.pieces()) {
      const length = Math.min(pieceBytes, bytes.length - piece * pieceBytes)
      const part = await swarm.read(piece * pieceBytes, length)
      expect(part.equals(bytes.subarray(piece * pieceBytes, piece * pieceBytes + length))).toBe(true)
      taken.push(piece)
    }
    return taken.sort((a, b) => a - b)
  }

  test('get the rest from each other, one copy out of the origin', async () => {
    const { join, origin } = await open()
    const swarms = await Promise.all(names(5).map((name) => join(name, { wanted: few })))
    for (const taken of await Promise.all(swarms.map(takeSome))) expect(taken).toEqual([...few])
    const neededBytes = 5 * pieceBytes + (bytes.length % pieceBytes)
    expect(origin.sentBytes).toBe(neededBytes)
    expect(swarms.map((swarm) => swarm.progress().receivedBytes)).toEqual(swarms.map(() => neededBytes))
    const begun = performance.now()
    await Promise.all(swarms.map((swarm) => swarm.linger({ maxMs: 30_000, signal: AbortSignal.timeout(30_000) })))
    expect(performance.now() - begun).toBeLessThan(4000)
  })

  test('get what others do not need from those who do, and hold up nobody who needs everything', async () => {
    const { join, origin } = await open({ originBytesPerSecond: 8_000_000 })
    const others = new Set([7, 8, 300])
    const part = await Promise.all([join('a0', { wanted: few }), join('b0', { wanted: others })])
    const whole = await Promise.all([join('c0'), join('d0')])
    const taken = Promise.all(part.map(takeSome))
    const images = await Promise.all(whole.map((swarm) => takeAll(swarm, bytes)))
    for (const image of images) expect(image.equals(bytes)).toBe(true)
    expect(await taken).toEqual([[...few], [...others]])
    expect(origin.sentBytes).toBeLessThanOrEqual(1.05 * bytes.length)
  })

  test('have nothing to wait for when they need nothing', async () => {
    const { join } = await open()
    const swarm = await join('n0', { wanted: new Set() })
    expect(await takeSome(swarm)).toEqual([])
    await swarm.completed
  })
})
