import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import {
  capturedBytes,
  capturedDiskPath,
  capturedDisks,
  checkCapturedFrame,
  removeCaptured,
  writeCaptured,
  zeroFrames,
} from './captured-disk.ts'
import { compressFrame } from './frames.ts'
import { MiB, run, testFolder } from './testing.ts'

test('what a dead process wrote beyond what counts is cut off by the next bytes', async () => {
  const library = { folder: testFolder() }
  await writeCaptured(library, 7, { offset: 0, bytes: Buffer.from('one') })
  appendFileSync(capturedDiskPath(library, 7), 'what was not counted')
  await writeCaptured(library, 7, { offset: 3, bytes: Buffer.from('two') })
  expect(readFileSync(capturedDiskPath(library, 7), 'utf8')).toBe('onetwo')
  await writeCaptured(library, 7, { offset: 0, bytes: Buffer.from('anew') })
  expect(await capturedBytes(library, 7)).toBe(4)
  await expect(writeCaptured(library, 7, { offset: 5, bytes: Buffer.from('x') })).rejects.toMatchObject({
    code: 'internal',
  })
  expect(await capturedDisks(library)).toEqual([7])
  await removeCaptured(library, 7)
  expect([await capturedDisks(library), await capturedBytes(library, 7)]).toEqual([[], 0])
})

test('a volume that is nearly full takes no more, and says how much is free', async () => {
  const folder = join(testFolder(), 'small')
  mkdirSync(folder)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'hades-test', folder])
  onTestFinished(() => void execFileSync('umount', [folder]))
  const library = { folder }
  const full = { code: 'library-full' }
  await expect(writeCaptured(library, 7, { offset: 0, bytes: Buffer.alloc(9 * MiB) })).rejects.toMatchObject(full)
  expect(await capturedBytes(library, 7)).toBe(8 * MiB)
  await expect(writeCaptured(library, 7, { offset: 0, bytes: Buffer.from('x') })).rejects.toMatchObject({
    ...full,
    message: expect.stringContaining('0 MB are free'),
  })
})

test('frames and zeros one behind the other are a zstd file of the disk', async () => {
  const library = { folder: testFolder() }
  const frame = await compressFrame(Buffer.from('data'))
  const zeros = await zeroFrames(5, 3)
  await writeCaptured(library, 1, { offset: 0, bytes: frame.bytes })
  await writeCaptured(library, 1, { offset: frame.bytes.length, bytes: zeros.bytes })
  expect(run('zstd', ['-dc', capturedDiskPath(library, 1)]).toString('latin1')).toBe(`data${'\0'.repeat(15)}`)
})

test('a frame that inflates to more than it may is stopped there', async () => {
  const { bytes } = await compressFrame(Buffer.alloc(4 * MiB))
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const frame = { bytes, sha256, rawSha256: 'a'.repeat(64) }
  await expect(checkCapturedFrame(4 * MiB + 512, 1, frame)).rejects.toMatchObject({ code: 'bad-input', at: 'frame 1' })
})
