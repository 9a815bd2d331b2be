import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { frameSizeBytes } from '../model/image.ts'
import { compareFrames, differingRuns } from './compare.ts'
import { openDisk } from './disk.ts'
import { headBytesMax } from './plan.ts'
import { judgeSample, sampleFrames } from './redeploy.ts'
import { ownFolder, publish, rawDisk, type TestImage } from './test-image.ts'
import { createBuffers } from './write.ts'

let image: TestImage
beforeAll(async () => {
  const own = await ownFolder()
  image = await publish(await rawDisk(own.folder, ['data', 'zero', 'data', 'data', 'zero', 'data']))
  await own.remove()
})

let own: Awaited<ReturnType<typeof ownFolder>>
beforeEach(async () => {
  own = await ownFolder()
})
afterEach(async () => {
  await own.remove()
})

const signal = new AbortController().signal
const kibibyte = 1024

/** A disk that holds the image but for a byte in each of the frames that are named. */
async function diskWith(differing: readonly number[]) {
  const path = join(own.folder, 'disk.raw')
  const bytes = Buffer.from(image.raw)
  for (const number of differing) {
    const at = (number + 1) * frameSizeBytes - 1
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
  }
  await writeFile(path, bytes)
  const disk = await openDisk(path, 512)
  return { ...image, path, disk, buffers: createBuffers(2), blocks: undefined }
}

test('the frames that are there are found, zeros too, and nothing is written', async () => {
  const world = await diskWith([3, 4])
  const before = await readFile(world.path)
  const progress: number[] = []
  const onProgress = (doneBytes: number) => void progress.push(doneBytes)
  try {
    const { kept } = await compareFrames({ ...world, untilBytes: Number.POSITIVE_INFINITY, onProgress }, signal)
    expect(kept).toEqual(new Set([0, 1, 2, 5]))
    expect(world.buffers.head.equals(world.raw.subarray(0, headBytesMax))).toBe(true)
    expect(progress.at(-1)).toBe(world.raw.length)
    expect((await readFile(world.path)).equals(before)).toBe(true)
  } finally {
    await world.disk.close()
  }
})

test('what lies in the end of the disk that is wiped is not counted as there', async () => {
  const world = await diskWith([])
  try {
    const untilBytes = world.raw.length - 1
    const { kept } = await compareFrames({ ...world, untilBytes, onProgress: () => undefined }, signal)
    expect(kept).toEqual(new Set([0, 1, 2, 3, 4]))
  } finally {
    await world.disk.close()
  }
})

test('runs of blocks that differ are told, joined where little lies between', () => {
  const there = Buffer.alloc(1024 * kibibyte + 100)
  const wanted = Buffer.from(there)
  expect(differingRuns(wanted, there)).toEqual([])
  for (const at of [0, 20 * kibibyte, 512 * kibibyte, wanted.length - 1]) wanted.writeUInt8(1, at)
  expect(differingRuns(wanted, there)).toEqual([
    { offset: 0, length: 24 * kibibyte },
    { offset: 512 * kibibyte, length: 4 * kibibyte },
    { offset: 1024 * kibibyte, length: 100 },
  ])
})

test('a sample tells which part is there, of data frames beside the first', async () => {
  const world = await diskWith([0, 3])
  try {
    const { frames, there, part, bytesPerSecond, inflatedBytesPerSecond } = await sampleFrames(world, signal)
    expect({ frames, there, part }).toEqual({ frames: 3, there: 2, part: 2 / 3 })
    expect(inflatedBytesPerSecond).toBeGreaterThan(0)
    expect(bytesPerSecond).toBeGreaterThan(0)
  } finally {
    await world.disk.close()
  }
})

test.each([
  // An NVMe disk behind a gigabit: reading costs little of what fetching does.
  {
    name: 'a fast disk behind a slow network',
    there: 0.3,
    disk: 3000,
    network: 30,
    rotational: false,
    isDifference: true,
  },
  { name: 'hardly anything there', there: 0.05, disk: 500, network: 100, rotational: false, isDifference: false },
  // Read and write at one pace: all of it is read, and only data would be written.
  {
    name: 'a disk slower than the network',
    there: 0.6,
    disk: 100,
    network: 1000,
    rotational: true,
    isDifference: false,
  },
  // Half the cores of a small machine are what a full deployment waits for.
  {
    name: 'a processor slower than disk and network',
    there: 0.6,
    disk: 500,
    network: 1000,
    inflated: 100,
    rotational: false,
    isDifference: true,
  },
  // Every frame wants a few blocks, and the origin takes long to give them.
  {
    name: 'an origin slower than the disk',
    there: 0.99,
    disk: 3000,
    network: 30,
    mends: 10,
    rotational: false,
    isDifference: false,
  },
])('comparing pays or not: $name', ({ there, disk, network, inflated, mends, rotational, isDifference }) => {
  const sample = {
    frames: 64,
    there: Math.round(64 * there),
    part: there,
    mendable: mends ? 64 : 0,
    secondsPerMend: mends ?? 0,
    bytesPerSecond: disk * 1e6,
    inflatedBytesPerSecond: (inflated ?? 10_000) * 1e6,
  }
  const decision = judgeSample(image.manifest, sample, { rotational, networkBytesPerSecond: network * 1e6 })
  expect(decision.isDifference).toBe(isDifference)
  expect(decision.text).toMatch(new RegExp(`^${isDifference ? 'difference' : 'full'}: \\d+ of 64 sampled frames`))
})
