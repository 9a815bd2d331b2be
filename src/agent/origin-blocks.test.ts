import { randomInt } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { blockSums } from '../image/blocks.ts'
import { importImage } from '../image/import.ts'
import { type Library, openLibrary, readManifest } from '../image/library.ts'
import { blockBytes, frameSizeBytes, type Manifest } from '../model/image.ts'
import { addOriginRoutes } from '../swarm/origin-routes.ts'
import { compareFrames } from './compare.ts'
import { openDisk } from './disk.ts'
import { HttpFrames } from './http-frames.ts'
import { createLog } from './log.ts'
import { Origin } from './origin.ts'
import { OriginBlocks } from './origin-blocks.ts'
import { ownFolder, quarterRandom } from './test-image.ts'
import { readBack } from './verify.ts'
import { createBuffers, type TransferProgress, transfer, wipeEnds } from './write.ts'

const frames = 5
const lanes = 3
const signal = new AbortController().signal
const limits = { stallMs: 1000, noProgressMs: 3000, wrongAnswersMax: 3, pauseMs: 10, pauseMsMax: 50 }

let own: Awaited<ReturnType<typeof ownFolder>>
let closers: (() => Promise<unknown>)[]
let raw: Buffer
let library: Library
let digest: string
let manifest: Manifest
beforeEach(async () => {
  own = await ownFolder()
  closers = []
  raw = quarterRandom(frames * frameSizeBytes)
  library = await openLibrary(join(own.folder, 'images'))
  digest = (await importImage({ source: Readable.from([raw]), folder: library.folder })).digest
  manifest = await readManifest(library, digest)
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
  await own.remove()
})

/** The service's own routes, and what they sent. */
async function serve(change: (app: FastifyInstance) => void = () => undefined) {
  const sentBytes = new Map<string, number>()
  const app = Fastify({ forceCloseConnections: true })
  change(app)
  await addOriginRoutes(app, { library, sentBytes, baseUrl: 'http://127.0.0.1' })
  const base = await app.listen({ host: '127.0.0.1', port: 0 })
  closers.push(() => app.close())
  return { base: `${base}/images/${digest}`, sent: () => sentBytes.get(digest) ?? 0 }
}

/** Brings the image over a disk that holds `held`, as the agent does, but for the boot block. */
async function redeploy(base: string, held: Buffer) {
  const path = join(own.folder, 'disk.raw')
  await writeFile(path, held)
  const log = createLog(() => undefined)
  const origin = new Origin({ connections: lanes, limits, log })
  const disk = await openDisk(path, 512)
  closers.push(async () => origin.close())
  try {
    const buffers = createBuffers(lanes)
    const blocks = new OriginBlocks({ origin, framesUrl: `${base}/frames`, manifest, log })
    const onProgress = () => undefined
    const untilBytes = Number.POSITIVE_INFINITY
    const compared = await compareFrames({ disk, manifest, buffers, untilBytes, blocks, onProgress }, signal)
    await wipeEnds(disk, headBytes, buffers.zeros)
    const isWanted = (number: number) => !compared.kept.has(number) && !compared.mendable.has(number)
    const imageUrl = `${base}/image.zst`
    const source = new HttpFrames({ origin, imageUrl, manifest, connections: lanes, isWanted })
    let besideBytes = 0
    const onTransfer = (progress: TransferProgress) => {
      besideBytes = progress.besideBytes
    }
    const work = { source, blocks, origin, imageUrl, manifest, disk, buffers, log, compared, onProgress: onTransfer }
    const counts = await transfer(work, signal)
    await readBack({ disk, manifest, buffers, onProgress }, signal)
    const result = Buffer.concat([buffers.head, (await readFile(path)).subarray(buffers.head.length)])
    return { ...counts, compared, isImage: result.equals(raw), fetched: besideBytes + source.counts().receivedBytes }
  } finally {
    await disk.close()
  }
}

const headBytes = 1024 * 1024

/** What the disk holds: the image with other bytes in these blocks, counted over the whole disk. */
function diskWith(blocks: readonly number[]): Buffer {
  const held = Buffer.from(raw)
  for (const block of blocks) held.fill(0x5a, block * blockBytes, (block + 1) * blockBytes)
  return held
}

const perFrame = frameSizeBytes / blockBytes

test('one block in a hundred, strewn over the disk: hardly more than that is fetched and written', async () => {
  const { base, sent } = await serve()
  const strewn = new Set(Array.from({ length: frames * 10 }, () => randomInt(frames * perFrame)))
  const result = await redeploy(base, diskWith([...strewn]))
  expect(result.isImage).toBe(true)
  expect(result.fetched).toBe(sent())
  expect(result.fetched).toBeLessThan(0.03 * manifest.storedBytes)
  // The first MiB is always written, at the end.
  expect(result.bytesWritten - headBytes).toBeLessThan(0.03 * raw.length)
})

test('of the first frame too only what differs is fetched, its wiped beginning is known', async () => {
  const { base } = await serve()
  const result = await redeploy(base, diskWith([0, 3, 700]))
  expect(result.isImage).toBe(true)
  expect([...result.compared.mendable.keys()]).toEqual([0])
  expect(result.fetched).toBeLessThan(4096 + 4 * blockBytes)
})

test('a frame of which more than half differs comes whole', async () => {
  const { base } = await serve()
  const half = Array.from({ length: perFrame / 2 }, (_, index) => 2 * perFrame + 2 * index)
  const result = await redeploy(base, diskWith([...half, 2 * perFrame + 1]))
  expect(result.isImage).toBe(true)
  expect(result.compared.mendable.size).toBe(0)
  expect(result.fetched).toBe(4096 + (manifest.frames[2]?.length ?? 0))
})

test('an origin that knows no blocks is asked three times, and gives the frames', async () => {
  let asked = 0
  const { base } = await serve((app) =>
    app.addHook('onRequest', async (request, reply) => {
      if (!request.url.includes('/frames/')) return
      asked += 1
      await reply.code(404).send('no such file')
    }),
  )
  const result = await redeploy(base, diskWith([0, perFrame, 2 * perFrame, 3 * perFrame, 4 * perFrame]))
  expect(result.isImage).toBe(true)
  // The lanes that had asked already got their answers.
  expect(asked).toBeGreaterThanOrEqual(3)
  expect(asked).toBeLessThan(3 + lanes)
  expect(result.fetched).toBe(manifest.frames.reduce((sum, { length }) => sum + length, 0))
})

test('blocks that are not those of the image are not written: the frame comes whole', async () => {
  const { base } = await serve((app) =>
    app.addHook('onSend', async (request, _, payload) => {
      if (!request.url.includes('/blocks') || !Buffer.isBuffer(payload)) return payload
      const damaged = Buffer.from(payload)
      damaged.writeUInt8(damaged.readUInt8(20) ^ 1, 20)
      return damaged
    }),
  )
  const result = await redeploy(base, diskWith([perFrame + 5]))
  expect(result.isImage).toBe(true)
  expect(result.compared.mendable.size).toBe(1)
  expect(result.fetched).toBeGreaterThan(manifest.frames[1]?.length ?? 0)
})

test('sums that say nothing differs where something does cost a frame, and hide nothing', async () => {
  const held = diskWith([perFrame + 5])
  const { base } = await serve((app) =>
    app.addHook('onSend', async (request, reply, payload) => {
      if (!request.url.endsWith('/1/sums') || !Buffer.isBuffer(payload)) return payload
      reply.header('content-length', 4096)
      return blockSums(held.subarray(frameSizeBytes, 2 * frameSizeBytes))
    }),
  )
  const result = await redeploy(base, held)
  expect(result.isImage).toBe(true)
  expect(result.compared.mendable.size).toBe(0)
})
