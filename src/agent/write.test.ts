import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { openLoop, unmount } from '../lib/block-devices.ts'
import { until } from '../lib/until.ts'
import { Failure } from '../model/failure.ts'
import { frameSizeBytes } from '../model/image.ts'
import { openDisk } from './disk.ts'
import { FakeOrigin, type Rule } from './fake-origin.ts'
import { HttpFrames } from './http-frames.ts'
import { createLog } from './log.ts'
import { Origin, type OriginLimits } from './origin.ts'
import { headBytesMax } from './plan.ts'
import { attachLoop, clearFree, ownFolder, publish, quarterRandom, rawDisk, type TestImage } from './test-image.ts'
import { readBack } from './verify.ts'
import { createBuffers, type TransferProgress, transfer, wipe } from './write.ts'

const quick: OriginLimits = { stallMs: 300, noProgressMs: 1500, wrongAnswersMax: 4, pauseMs: 10, pauseMsMax: 50 }
const lanes = 5
const mixed = ['data', 'zero', 'data', 'data', 'zero', 'zero', 'data'] as const

/** One image for all that need no other: seven frames of `mixed`. */
let shared: TestImage
beforeAll(async () => {
  const own = await ownFolder()
  shared = await publish(await rawDisk(own.folder, mixed))
  await own.remove()
})

let folder: string
let removeFolder: () => Promise<void>
let closers: (() => Promise<void> | void)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  removeFolder = own.remove
  closers = []
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
  await removeFolder()
})

async function serve(image: TestImage, rule: Rule = () => undefined): Promise<FakeOrigin> {
  const origin = new FakeOrigin({ '/manifest.json': image.manifestBytes, '/image.zst': image.imageZst })
  origin.rule = rule
  await origin.start()
  closers.push(() => origin.kill())
  return origin
}

/** Brings `image` onto the disk at `path` and reads it back, as the agent does, but for the boot block. */
async function bring(
  image: TestImage,
  from: FakeOrigin,
  path: string,
  options: { sectorBytes?: number; limits?: OriginLimits; signal?: AbortSignal; onProgress?: (n: number) => void } = {},
) {
  const signal = options.signal ?? new AbortController().signal
  const log = createLog(() => undefined)
  const origin = new Origin({ connections: lanes, limits: options.limits ?? quick, log })
  const sectorBytes = options.sectorBytes ?? 512
  const buffers = createBuffers(lanes)
  const disk = await openDisk(path, sectorBytes)
  try {
    const onProgress = options.onProgress ?? (() => undefined)
    const manifest = await origin.fetchManifest(from.url('/manifest.json'), image.digest, signal)
    const imageUrl = from.url('/image.zst')
    const source = new HttpFrames({ origin, imageUrl, manifest, connections: lanes })
    const progress = ({ doneBytes }: TransferProgress) => onProgress(doneBytes)
    const work = { source, origin, imageUrl, manifest, disk, buffers, log, onProgress: progress }
    const counts = await transfer(work, signal)
    const readBytes = await readBack({ disk, manifest, buffers, onProgress: () => undefined }, signal)
    return {
      ...counts,
      readBytes,
      bytesFetched: origin.documentBytes + origin.rangeBytes,
      head: buffers.head,
      isDirect: disk.isDirect,
      log,
    }
  } finally {
    await disk.close()
    origin.close()
  }
}

/** A file for a disk, full of rubbish, with its first MiB zero as `wipe` leaves it. */
async function diskFile(sizeBytes: number): Promise<string> {
  const path = join(folder, 'disk.raw')
  await writeFile(path, Buffer.alloc(sizeBytes, 0xa5).fill(0, 0, headBytesMax))
  return path
}

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  const failure = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(failure).toBeInstanceOf(Failure)
  return failure as Failure
}

test.each([512, 4096] as const)(
  'an image lands on a block device with sectors of %i bytes, all but its first MiB',
  async (sectorBytes) => {
    // The odd tail is no whole frame; with 4096 it is a whole sector all the same.
    const image = await publish(await rawDisk(folder, mixed, 3 * 4096), sectorBytes)
    const sizeBytes = image.raw.length + 8 * 1024 * 1024
    const loop = await attachLoop(join(folder, 'disk.raw'), sizeBytes, sectorBytes)
    closers.push(loop.detach)
    const signal = new AbortController().signal
    await wipe({ path: loop.device, sizeBytes, sectorBytes }, createBuffers(lanes).zeros, signal)
    const result = await bring(image, await serve(image), loop.device, { sectorBytes })
    const disk = await readFile(join(folder, 'disk.raw'))
    expect(disk.subarray(0, headBytesMax).every((byte) => byte === 0)).toBe(true)
    expect(disk.subarray(headBytesMax, image.raw.length).equals(image.raw.subarray(headBytesMax))).toBe(true)
    expect(result.head.equals(image.raw.subarray(0, headBytesMax))).toBe(true)
    // What lies behind the image stays as it was, but for the wiped end of the disk.
    expect(disk.subarray(image.raw.length, sizeBytes - 1024 * 1024).every((byte) => byte === 0xa5)).toBe(true)
    expect(disk.subarray(sizeBytes - 1024 * 1024).every((byte) => byte === 0)).toBe(true)
    expect(result.isDirect).toBe(true)
    expect(result.bytesWritten + result.bytesZeroed).toBe(image.raw.length)
    expect(result.readBytes).toBe(image.raw.length - headBytesMax)
  },
)

test('an image whose size is no whole number of sectors lands on a file', async () => {
  const image = await publish(Buffer.concat([quarterRandom(frameSizeBytes), quarterRandom(1000)]))
  const path = await diskFile(2 * frameSizeBytes)
  await bring(image, await serve(image), path)
  const disk = await readFile(path)
  expect(disk.subarray(headBytesMax, image.raw.length).equals(image.raw.subarray(headBytesMax))).toBe(true)
})

test('where the file system knows no direct I/O the image lands by buffered writes', async () => {
  const ramfs = join(folder, 'ramfs')
  await execa('mkdir', [ramfs])
  await execa('mount', ['-t', 'ramfs', 'ramfs', ramfs])
  closers.push(() => unmount(ramfs))
  const image = shared
  const path = join(ramfs, 'disk.raw')
  await writeFile(path, Buffer.alloc(image.raw.length, 0xa5))
  const result = await bring(image, await serve(image), path)
  expect(result.isDirect).toBe(false)
  expect((await readFile(path)).subarray(headBytesMax).equals(image.raw.subarray(headBytesMax))).toBe(true)
})

test('zero frames are not fetched and neighbouring data frames share requests', async () => {
  const image = await publish(await rawDisk(folder, [...mixed, 'data', 'data', 'data', 'data']))
  const origin = await serve(image)
  const result = await bring(image, origin, await diskFile(image.raw.length))
  const data = image.manifest.frames.filter((frame) => frame.class === 'data')
  const dataBytes = data.reduce((sum, frame) => sum + frame.length, 0)
  expect(result.bytesFetched).toBe(dataBytes + image.manifestBytes.length)
  expect(origin.asked.length - 1).toBeLessThan(data.length)
})

test('an origin killed in the middle and started again sends no finished frame twice', async () => {
  const frames = 25
  const image = await publish(
    await rawDisk(
      folder,
      Array.from({ length: frames }, () => 'data' as const),
    ),
  )
  // The manifest and three requests are answered, then every lane is stuck in the middle of one.
  let stuck = 0
  const origin = await serve(image, ({ count }) => {
    if (count <= 4) return undefined
    stuck++
    return { kind: 'stall', afterBytes: 100_000 }
  })
  let doneBytes = 0
  const onProgress = (bytes: number) => {
    doneBytes = bytes
  }
  const limits = { ...quick, noProgressMs: 20_000, stallMs: 20_000, wrongAnswersMax: 8 }
  const brought = bring(image, origin, await diskFile(image.raw.length), { limits, onProgress })
  await until('every lane to be stuck', () => stuck === lanes && doneBytes > 0, { timeoutMs: 20_000, everyMs: 10 })
  await origin.kill()
  const before = origin.asked.splice(0)
  origin.rule = () => undefined
  await origin.start()
  const result = await brought
  expect(result.bytesWritten).toBe(image.raw.length)
  const answered = new Set(before.slice(0, 4).map(({ start }) => start))
  expect(origin.asked.filter(({ start }) => answered.has(start))).toEqual([])
  // Every frame was received whole exactly once.
  const frameBytes = image.manifest.frames.reduce((sum, frame) => sum + frame.length, 0)
  expect(result.bytesFetched).toBe(frameBytes + image.manifestBytes.length)
})

const passing: readonly [string, Rule][] = [
  ['resets', ({ count }) => (count % 3 === 0 ? { kind: 'reset', afterBytes: 70_000 } : undefined)],
  ['closes early', ({ count }) => (count % 3 === 0 ? { kind: 'close', afterBytes: 70_000 } : undefined)],
  ['stalls', ({ count }) => (count === 3 ? { kind: 'stall', afterBytes: 70_000 } : undefined)],
  ['answers 500', ({ count }) => (count % 3 === 0 ? { kind: 'status', status: 500, body: 'busy' } : undefined)],
  ['answers 404', ({ count }) => (count === 2 ? { kind: 'status', status: 404, body: 'gone' } : undefined)],
  ['ignores the range', ({ count }) => (count === 3 ? { kind: 'ignore-range' } : undefined)],
  ['answers another range', ({ count }) => (count === 3 ? { kind: 'wrong-range' } : undefined)],
  ['announces too little', ({ count }) => (count === 3 ? { kind: 'short-length', bytes: 1000 } : undefined)],
  ['flips a bit', ({ count, start }) => (count === 3 ? { kind: 'flip', offset: start + 5000 } : undefined)],
]
test.each(passing)('an origin that now and then %s only costs time', async (_, rule) => {
  const image = shared
  const path = await diskFile(image.raw.length)
  const result = await bring(image, await serve(image, rule), path)
  expect(result.bytesWritten + result.bytesZeroed).toBe(image.raw.length)
  expect((await readFile(path)).subarray(headBytesMax).equals(image.raw.subarray(headBytesMax))).toBe(true)
})

const lasting: readonly [string, Rule, string, string][] = [
  [
    'answers 404',
    () => ({ kind: 'status', status: 404, body: 'no such image' }),
    'origin-error',
    '404 Not Found: no such image',
  ],
  [
    'answers 500',
    () => ({ kind: 'status', status: 500, body: 'library offline' }),
    'origin-error',
    '500 Internal Server Error: library offline',
  ],
  ['ignores the range', () => ({ kind: 'ignore-range' }), 'origin-error', 'ignored the Range header'],
  [
    'answers another range',
    () => ({ kind: 'wrong-range' }),
    'origin-error',
    'the origin answered Content-Range bytes 0-',
  ],
  ['announces too little', () => ({ kind: 'short-length', bytes: 1000 }), 'origin-error', 'announced 1000 bytes'],
  ['cuts every answer off', () => ({ kind: 'close', afterBytes: 1000 }), 'origin-error', 'cut off after 1000 bytes'],
  ['sends nothing', () => ({ kind: 'stall', afterBytes: 0 }), 'origin-unreachable', 'silent for 300 ms'],
]
test.each(lasting)('an origin that always %s ends the transfer', async (_, fault, code, words) => {
  const image = shared
  // Only what lies behind the first frames is affected: those must be done by then, and the disk not boot all the same.
  const from = image.manifest.frames[6]?.offset ?? 0
  const origin = await serve(image, (asked) =>
    asked.path === '/image.zst' && asked.start >= from ? fault(asked) : undefined,
  )
  const path = await diskFile(image.raw.length)
  const failure = await failureOf(bring(image, origin, path))
  expect(failure.code).toBe(code)
  expect(failure.cause).toMatchObject({ message: expect.stringContaining(words) })
  expect((await readFile(path)).subarray(0, headBytesMax).every((byte) => byte === 0)).toBe(true)
})

test('an origin that is not there is waited for until the deadline', async () => {
  const image = await publish(quarterRandom(frameSizeBytes))
  const origin = await serve(image)
  await origin.kill()
  const began = performance.now()
  const failure = await failureOf(bring(image, origin, await diskFile(frameSizeBytes)))
  expect(failure.code).toBe('origin-unreachable')
  expect(performance.now() - began).toBeGreaterThan(quick.noProgressMs)
  await origin.start()
})

test('a frame that stays corrupt is fetched three times and named', async () => {
  const image = shared
  const offset = image.manifest.frames[3]?.offset ?? 0
  const origin = await serve(image, ({ path }) =>
    path === '/image.zst' ? { kind: 'flip', offset: offset + 7 } : undefined,
  )
  const failure = await failureOf(bring(image, origin, await diskFile(image.raw.length)))
  expect(failure.code).toBe('image-corrupt')
  expect(failure.message).toContain(`frame 3 (offset ${offset} of image.zst, ${3 * frameSizeBytes} of the disk)`)
  expect(failure.message).toContain('fetched 3 times')
  expect(
    origin.asked.filter(({ path, start, end }) => path === '/image.zst' && start <= offset && end > offset),
  ).toHaveLength(3)
})

test('a manifest of another digest is refused', async () => {
  const image = await publish(quarterRandom(frameSizeBytes))
  const origin = await serve({
    ...image,
    manifestBytes: Buffer.from(image.manifestBytes.toString().replace('"format":1', '"format":2')),
  })
  const failure = await failureOf(bring(image, origin, await diskFile(frameSizeBytes)))
  expect(failure.code).toBe('image-corrupt')
  expect(failure.message).toContain('fetched 3 times')
})

test('a disk that cannot take a write is named with offset and errno', async () => {
  // A loop device whose backing file cannot grow answers EIO, as a broken disk does.
  const small = join(folder, 'small')
  await execa('mkdir', [small])
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', small])
  closers.push(() => unmount(small))
  const backing = join(small, 'disk.raw')
  await execa('truncate', ['--size', '28M', backing])
  const { device, detach } = await openLoop(backing)
  closers.push(detach)
  const image = shared
  const failure = await failureOf(bring(image, await serve(image), device))
  expect(failure.code).toBe('disk-error')
  expect(failure.message).toMatch(new RegExp(`^(write \\d+ bytes at offset \\d+ of|flush) ${device}`))
  expect(failure.cause).toMatchObject({ message: expect.stringMatching(/EIO|ENOSPC/) })
})

test('what reads back other than it was written is named by its frame', async () => {
  const image = shared
  const path = await diskFile(image.raw.length)
  await bring(image, await serve(image), path)
  const disk = await openDisk(path, 512)
  closers.push(() => disk.close())
  const buffers = createBuffers(lanes)
  image.raw.copy(buffers.head, 0, 0, headBytesMax)
  const read = () =>
    readBack({ disk, manifest: image.manifest, buffers, onProgress: () => undefined }, new AbortController().signal)
  expect(await read()).toBe(image.raw.length - headBytesMax)
  for (const [frame, words] of [
    [0, 'SHA-256'],
    [4, 'zeros'],
    [6, 'SHA-256'],
  ] as const) {
    const bytes = await readFile(path)
    const at = frame * frameSizeBytes + 2 * 1024 * 1024
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    await writeFile(path, bytes)
    const failure = await failureOf(read())
    expect(failure.code).toBe('disk-error')
    expect(failure.message).toContain(`frame ${frame} (offset ${frame * frameSizeBytes}) of ${path}`)
    expect(failure.message).toContain(words)
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    await writeFile(path, bytes)
  }
})

test.each([512, 4096] as const)(
  'free blocks are neither written nor read back on sectors of %i bytes, and frames of nothing else not even fetched',
  async (sectorBytes) => {
    const block = 4096
    // The head is kept whole, whatever of it is free; the last run ends with the image, in the middle of a block.
    const runs = [
      [
        [0, 10],
        [300, 20],
        [1000, 24],
      ],
      [],
      undefined,
      [
        [5, 1],
        [900, 3],
      ],
    ] as const
    const raw = clearFree(await rawDisk(folder, ['data', 'data', 'zero', 'data']), runs)
    const bytes = raw.subarray(0, 3 * frameSizeBytes + 903 * block - (sectorBytes === 512 ? 512 : 0))
    const image = await publish(bytes, sectorBytes, runs)
    expect(image.manifest.frames.map((frame) => frame.class)).toEqual(['data', 'free', 'zero', 'data'])
    const path = await diskFile(raw.length)
    const from = await serve(image)
    const told: number[] = []
    const result = await bring(image, from, path, { sectorBytes, onProgress: (done) => told.push(done) })
    const disk = await readFile(path)
    const kept = Buffer.alloc(raw.length, 0xa5).fill(0, 0, headBytesMax)
    for (const [at, count] of [
      [300, 20],
      [1000, 24],
      [2048, 1024],
      [3077, 1],
      [3972, 3],
    ] as const) {
      bytes.copy(kept, at * block, at * block, (at + count) * block)
    }
    expect(disk.equals(kept)).toBe(true)
    expect(result.head.equals(bytes.subarray(0, headBytesMax))).toBe(true)
    const last = bytes.length - 3 * frameSizeBytes - 900 * block
    expect(result.bytesWritten).toBe(headBytesMax + 45 * block + last)
    expect(result.bytesZeroed).toBe(frameSizeBytes)
    expect(result.readBytes).toBe(45 * block + last + frameSizeBytes)
    expect(told.at(-1)).toBe(bytes.length)
    const data = image.manifest.frames.filter((frame) => frame.class === 'data')
    expect(result.bytesFetched).toBe(image.manifestBytes.length + data.reduce((sum, { length }) => sum + length, 0))
  },
)

test('a disk that is mounted cannot be opened', async () => {
  const loop = await attachLoop(join(folder, 'disk.raw'), 16 * 1024 * 1024, 512)
  closers.push(loop.detach)
  await execa('mkfs.ext4', ['-q', '-F', loop.device])
  const mounted = join(folder, 'mounted')
  await execa('mkdir', [mounted])
  await execa('mount', [loop.device, mounted])
  closers.push(() => unmount(mounted))
  const failure = await failureOf(openDisk(loop.device, 512))
  expect(failure.code).toBe('disk-error')
  expect(failure.cause).toMatchObject({ code: 'EBUSY' })
})

test('wiping leaves no signature of a file system or partition table', async () => {
  const sizeBytes = 16 * 1024 * 1024
  const loop = await attachLoop(join(folder, 'disk.raw'), sizeBytes, 512)
  closers.push(loop.detach)
  await execa('sgdisk', ['--clear', '--new=1:2048:4095', loop.device])
  await wipe(
    { path: loop.device, sizeBytes, sectorBytes: 512 },
    createBuffers(lanes).zeros,
    new AbortController().signal,
  )
  expect((await execa('wipefs', [loop.device])).stdout).toBe('')
})

test('an abort ends the transfer at once with its reason', async () => {
  const image = shared
  const origin = await serve(image, ({ start }) => (start > 0 ? { kind: 'stall', afterBytes: 10 } : undefined))
  const stop = new AbortController()
  const limits = { ...quick, stallMs: 60_000, noProgressMs: 60_000 }
  const brought = bring(image, origin, await diskFile(image.raw.length), { limits, signal: stop.signal })
  const failed = failureOf(brought)
  await until('requests', () => origin.asked.length > 2, { timeoutMs: 5000, everyMs: 5 })
  stop.abort(new Failure('cancelled', 'enough'))
  expect((await failed).code).toBe('cancelled')
})
