import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { TransferOrder } from '../contract/types.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { encodeTorrent } from '../protocol/torrent.ts'
import { openSwarm, type TestSwarm, torrentOf } from '../swarm/testing.ts'
import { openDisk } from './disk.ts'
import { type EngineWork, openSource } from './engine.ts'
import { FakeOrigin } from './fake-origin.ts'
import { createLog } from './log.ts'
import { Origin, type OriginLimits } from './origin.ts'
import { headBytesMax } from './plan.ts'
import { unusedEnd } from './spill-disk.ts'
import { ownFolder, publish, rawDisk, type TestImage } from './test-image.ts'
import { createBuffers, transfer } from './write.ts'

const quick: OriginLimits = { stallMs: 1000, noProgressMs: 5000, wrongAnswersMax: 4, pauseMs: 10, pauseMsMax: 50 }
const mebibyte = 1024 * 1024
const lanes = 3

let image: TestImage
beforeAll(async () => {
  const own = await ownFolder()
  const frames = ['data', 'zero', 'data', 'data', 'zero', 'data', 'data', 'data', 'data', 'data'] as const
  image = await publish(await rawDisk(own.folder, frames, 3 * 4096))
  await own.remove()
})

let folder: string
let closers: (() => Promise<void>)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

type World = { readonly origin: FakeOrigin; readonly swarm: TestSwarm }

/** An origin with the image and `torrent` of it, and a tracker. */
async function createWorld(torrent = torrentOf(image.imageZst)): Promise<World> {
  const origin = new FakeOrigin({
    '/manifest.json': image.manifestBytes,
    '/image.zst': image.imageZst,
    '/image.torrent': encodeTorrent(torrent),
  })
  await origin.start()
  closers.push(() => origin.kill())
  // Slow enough that a transfer lasts, where a test has hosts ask this origin.
  const swarm = await openSwarm(image.imageZst, { originBytesPerSecond: 5_000_000 })
  closers.push(swarm.close)
  return { origin, swarm }
}

/** One host that brings the image onto a disk of its own, as the agent does. */
async function host(
  { origin: from, swarm }: World,
  name: string,
  options: {
    readonly order?: Partial<TransferOrder>
    readonly work?: Partial<EngineWork>
    readonly diskBytes?: number
    /** Waited for when the disk is written. */
    readonly leave?: () => Promise<unknown>
  } = {},
) {
  const { manifest } = image
  const path = join(folder, `${name}.raw`)
  const sizeBytes = options.diskBytes ?? image.raw.length
  await writeFile(path, Buffer.alloc(sizeBytes, 0xa5))
  const told: string[] = []
  const log = createLog((line) => void told.push(line))
  const signal = new AbortController().signal
  const origin = new Origin({ connections: lanes, limits: quick, log })
  const fellBack: string[] = []
  const imageUrl = options.work?.imageUrl ?? from.url('/image.zst')
  const range = unusedEnd(manifest.sizeBytes, sizeBytes)
  const source = openSource({
    order: {
      engine: 'swarm',
      infoHash: torrentOf(image.imageZst).infoHash,
      torrentUrl: from.url('/image.torrent'),
      metalinkUrl: from.url('/image.meta4'),
      announceUrl: swarm.tracker.url,
      lingerSeconds: 10,
      ...options.order,
    },
    imageUrl,
    manifest,
    origin,
    spillTo: range && { disk: { path, sizeBytes, sectorBytes: 512 }, range },
    connections: lanes,
    budgetBytes: 64 * mebibyte,
    listen: { host: '127.0.0.1', port: 0 },
    sessionKey: new Secret(name),
    client: 'HaDeS test',
    log,
    onFellBack: async (text) => void fellBack.push(text),
    ...options.work,
  })
  const disk = await openDisk(path, 512)
  const buffers = createBuffers(lanes)
  let progress = { doneBytes: 0, writtenBytes: 0, durableBytes: 0, besideBytes: 0 }
  const onProgress = (newest: typeof progress) => {
    progress = newest
  }
  try {
    await transfer({ source, origin, imageUrl, manifest, disk, buffers, log, onProgress }, signal)
    await options.leave?.()
  } finally {
    await source.close()
    await disk.close()
    origin.close()
  }
  const written = await readFile(path)
  const isRight =
    written.subarray(headBytesMax, image.raw.length).equals(image.raw.subarray(headBytesMax)) &&
    buffers.head.equals(image.raw.subarray(0, headBytesMax))
  return { isRight, counts: source.counts(), fellBack, progress, log: told.join('') }
}

const storedDataBytes = () =>
  image.manifest.frames.reduce((sum, frame) => sum + (frame.class === 'data' ? frame.length : 0), 0)

test('three hosts take about one copy of the image out of the origin, by the swarm', async () => {
  const world = await createWorld()
  const work = { imageUrl: world.swarm.origin.url }
  // Nobody leaves before everybody has everything.
  let missing = 3
  const all = Promise.withResolvers<void>()
  const leave = () => {
    missing -= 1
    if (missing === 0) all.resolve()
    return all.promise
  }
  const hosts = ['a', 'b', 'c'].map((name) => host(world, name, { work, leave }))
  const results = await Promise.all(hosts)
  expect(results.map(({ isRight }) => isRight)).toEqual([true, true, true])
  expect(results.flatMap(({ fellBack }) => fellBack)).toEqual([])
  const fromOrigin = results.reduce((sum, { counts }) => sum + counts.fromOriginBytes, 0)
  expect(fromOrigin).toBeLessThan(1.2 * image.imageZst.length)
  for (const { counts, progress } of results) {
    expect(counts).toMatchObject({ engine: 'swarm', verifiedBytes: image.imageZst.length })
    expect(progress).toMatchObject({
      doneBytes: image.raw.length,
      writtenBytes: storedDataBytes(),
      durableBytes: storedDataBytes(),
      besideBytes: 0,
    })
  }
})

const torrentOfOther = () => torrentOf(Buffer.concat([image.imageZst.subarray(1), Buffer.from([0])]))

test.each([
  {
    what: 'there is no torrent',
    order: (world: World) => ({ torrentUrl: world.origin.url('/nothing') }),
    words: '404 Not Found',
  },
  {
    what: 'the torrent has another info-hash',
    order: () => ({ infoHash: '0'.repeat(40) }),
    words: 'has the info-hash',
  },
  {
    what: 'the torrent is of another size',
    order: () => ({}),
    torrent: () => torrentOf(image.imageZst.subarray(1)),
    words: `bytes, not `,
  },
  {
    what: 'the port cannot be bound',
    order: () => ({}),
    work: () => ({ listen: { host: '192.0.2.1', port: 6881 } }),
    words: 'EADDRNOTAVAIL',
  },
  {
    what: 'the torrent is of other bytes',
    order: () => ({}),
    torrent: torrentOfOther,
    words: 'does not have the bytes',
  },
])('when $what the host says so and goes on by HTTP', async ({ order, torrent, work, words }) => {
  const lying = torrent?.()
  const world = await createWorld(lying)
  const result = await host(world, 'a', {
    order: { ...(lying === undefined ? {} : { infoHash: lying.infoHash }), ...order(world) },
    work: work?.() ?? {},
  })
  expect(result.fellBack).toEqual([expect.stringContaining(words)])
  expect(result.isRight).toBe(true)
  expect(result.counts).toMatchObject({ engine: 'http', verifiedBytes: storedDataBytes() })
})

test('an engine that breaks in the middle leaves only the missing frames to HTTP', async () => {
  const world = await createWorld()
  const from = image.manifest.frames[6]?.offset ?? 0
  // Enough wrong pieces for the swarm to give up, and then none.
  let flips = 0
  let fellBackAt = Number.POSITIVE_INFINITY
  world.origin.rule = ({ path, start, end, count }) => {
    const isSpoiled = path === '/image.zst' && end > from && count < fellBackAt
    if (!isSpoiled) return undefined
    flips += 1
    return { kind: 'flip', offset: Math.max(start, from + 100) }
  }
  const onFellBack = async () => {
    fellBackAt = world.origin.asked.length
  }
  const result = await host(world, 'a', { work: { onFellBack } })
  expect(flips).toBeGreaterThan(0)
  expect(result.isRight).toBe(true)
  const after = world.origin.asked.slice(fellBackAt)
  expect(after.length).toBeGreaterThan(0)
  // The frames before the spoiled ones had come by then.
  expect(Math.min(...after.map(({ start }) => start))).toBeGreaterThanOrEqual(image.manifest.frames[5]?.offset ?? 0)
})

test('a frame that is wrong although its pieces are right comes from the origin', async () => {
  // The torrent and what the swarm gives are of an image with one wrong byte in frame 3.
  const { offset = 0, length = 0 } = image.manifest.frames[3] ?? {}
  const wrong = Buffer.from(image.imageZst)
  wrong.writeUInt8(wrong.readUInt8(offset + 50) ^ 1, offset + 50)
  const torrent = torrentOf(wrong)
  const world = await createWorld(torrent)
  const isFrame = (start: number, end: number) => start === offset && end === offset + length - 1
  world.origin.rule = ({ path, start, end }) =>
    path === '/image.zst' && !isFrame(start, end) ? { kind: 'flip', offset: offset + 50 } : undefined
  const result = await host(world, 'a', { order: { infoHash: torrent.infoHash } })
  expect(result).toMatchObject({ isRight: true, fellBack: [], progress: { besideBytes: length } })
  expect(result.log).toContain(`frame 3 (offset ${offset} of image.zst`)
})

test('a host with little memory spills to the end of its disk and brings the image all the same', async () => {
  const world = await createWorld()
  const diskBytes = image.raw.length + 80 * mebibyte
  // A neighbour that is always behind keeps the pieces wanted.
  const work = { imageUrl: world.swarm.origin.url, budgetBytes: mebibyte }
  const behind = await world.swarm.join('behind', { ingressBytesPerSecond: 1_000_000 })
  const result = await host(world, 'a', { diskBytes, work })
  await behind.close()
  expect(result).toMatchObject({ isRight: true, fellBack: [] })
  expect(result.log).toContain('pieces beyond 1048576 bytes of memory go to')
})

test.each([
  { where: 'in memory', work: {}, diskBytes: () => image.raw.length, words: 'aria2 is process' },
  {
    where: 'behind the image',
    work: { budgetBytes: mebibyte },
    diskBytes: () => image.raw.length + 80 * mebibyte,
    words: 'aria2 keeps the image at /dev/loop',
  },
])('aria2 brings the image, keeping it $where', async ({ work, diskBytes, words }) => {
  const world = await createWorld()
  const result = await host(world, 'a', { order: { engine: 'aria2' }, diskBytes: diskBytes(), work })
  expect(result).toMatchObject({ isRight: true, fellBack: [], counts: { engine: 'aria2' } })
  expect(result.counts.verifiedBytes).toBe(image.imageZst.length)
  expect(result.log).toContain(words)
})

test('without room for aria2 the host says so and goes on by HTTP', async () => {
  const world = await createWorld()
  const result = await host(world, 'a', { order: { engine: 'aria2' }, work: { budgetBytes: mebibyte } })
  expect(result.fellBack).toEqual([expect.stringContaining('there is no room for')])
  expect(result).toMatchObject({ isRight: true, counts: { engine: 'http' } })
})

test('when aria2 dies in the middle HTTP brings the rest', async () => {
  const world = await createWorld()
  // It gives aria2 some of the image and then nothing: only the death of the process is left.
  world.origin.rule = ({ path }) => (path === '/image.zst' ? { kind: 'stall', afterBytes: 4_000_000 } : undefined)
  const log = createLog((line) => {
    const [, pid] = /aria2 is process (\d+)/.exec(line) ?? []
    if (pid !== undefined) aria2 = Number(pid)
  })
  let aria2: number | undefined
  const finished = host(world, 'a', {
    order: { engine: 'aria2' },
    work: {
      log,
      onFellBack: async (text) => {
        fellBack = text
        world.origin.rule = () => undefined
      },
    },
  })
  let fellBack = ''
  await until('aria2 to have something', () => world.origin.bytesSent > 4_000_000, { timeoutMs: 20_000, everyMs: 20 })
  if (aria2 !== undefined) process.kill(aria2, 'SIGKILL')
  const result = await finished
  expect(fellBack).toContain('aria2 -> http: aria2c ended with SIGKILL')
  expect(result.isRight).toBe(true)
})
