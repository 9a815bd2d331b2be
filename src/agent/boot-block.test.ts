import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Failure } from '../model/failure.ts'
import { frameSizeBytes } from '../model/image.ts'
import { writeBootBlock } from './boot-block.ts'
import { openDisk } from './disk.ts'
import { createLog } from './log.ts'
import { headBytesMax } from './plan.ts'
import { attachLoop, ownFolder, publish, rawDisk, type TestImage } from './test-image.ts'
import { createBuffers } from './write.ts'

const lanes = 1
let folder: string
let closers: (() => Promise<void> | void)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

/** A disk that holds the whole image but for its first MiB, as after `transfer`. */
async function writtenDisk() {
  const image = await publish(await rawDisk(folder, ['data', 'data']))
  const loop = await attachLoop(join(folder, 'disk.raw'), 3 * frameSizeBytes, 512)
  closers.push(loop.detach)
  const disk = await openDisk(loop.device, 512)
  closers.push(() => disk.close())
  const buffers = createBuffers(lanes)
  const [slot = Buffer.alloc(0)] = buffers.raw
  for (const number of [0, 1]) {
    image.raw.copy(slot, 0, number * frameSizeBytes, (number + 1) * frameSizeBytes)
    await disk.write(slot, frameSizeBytes, number * frameSizeBytes)
  }
  await disk.write(buffers.zeros, headBytesMax, 0)
  image.raw.copy(buffers.head, 0, 0, headBytesMax)
  const seen = { path: loop.device, sizeBytes: 3 * frameSizeBytes, sectorBytes: 512, rotational: false }
  const work = { seen, disk, manifest: image.manifest, buffers, log: createLog(() => undefined) }
  return { image, work }
}

const head = async () => (await readFile(join(folder, 'disk.raw'))).subarray(0, headBytesMax)

/** Another first frame than the manifest promises, as when the disk loses a write. */
function withWrongFirstFrame(image: TestImage) {
  const frames = image.manifest.frames.map((frame, number) =>
    frame.class === 'data' && number === 0 ? { ...frame, rawSha256: '0'.repeat(64) } : frame,
  )
  return { ...image.manifest, frames }
}

test('a disk that was proven gets its first MiB and its backup table', async () => {
  const { image, work } = await writtenDisk()
  const { gpt, bytesReadBack } = await writeBootBlock(work, new AbortController().signal)
  expect(gpt).toContain('No problems found')
  expect(bytesReadBack).toBe(frameSizeBytes)
  // The boot code of the MBR is the image's; its table and the GPT header tell of the disk's new end.
  expect(image.raw.subarray(0, 440).some((byte) => byte !== 0)).toBe(true)
  expect((await head()).subarray(0, 440).equals(image.raw.subarray(0, 440))).toBe(true)
  expect((await head()).toString('latin1', 512, 520)).toBe('EFI PART')
})

test('a first frame that reads back wrong leaves a disk that does not boot', async () => {
  const { image, work } = await writtenDisk()
  const writing = writeBootBlock({ ...work, manifest: withWrongFirstFrame(image) }, new AbortController().signal)
  await expect(writing).rejects.toMatchObject({ code: 'disk-error', message: expect.stringContaining('frame 0') })
  expect((await head()).every((byte) => byte === 0)).toBe(true)
})

test('a cancel before the hand-over leaves a disk that does not boot', async () => {
  const { work } = await writtenDisk()
  const cancelled = new Failure('cancelled', 'enough')
  await expect(writeBootBlock(work, AbortSignal.abort(cancelled))).rejects.toBe(cancelled)
  expect((await head()).every((byte) => byte === 0)).toBe(true)
})
