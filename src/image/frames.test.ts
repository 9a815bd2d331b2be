import { randomBytes } from 'node:crypto'
import { zstdCompressSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { frameSizeBytes, type Manifest } from '../model/image.ts'
import { checkFrame, compressFrame, inflateFrame, rawBytesOf, seekTableBytes } from './frames.ts'
import { run, sha256 } from './testing.ts'

/** A manifest of a disk of one frame, whose frame claims to be `stored`. */
function manifestOf(stored: Buffer, sizeBytes: number, claim: { class?: 'zero'; rawSha256?: string } = {}): Manifest {
  const { length } = stored
  const place = { offset: 0, length }
  const data = { class: 'data', ...place, sha256: sha256(stored), rawSha256: '0'.repeat(64) } as const
  return {
    format: 1,
    sizeBytes,
    frameSizeBytes,
    storedBytes: length + seekTableBytes(1),
    sectorBytes: 512,
    frames: [claim.class === 'zero' ? { class: 'zero', ...place } : data],
  }
}

test('a frame inflates to what was compressed, here and by zstd', async () => {
  for (const raw of [randomBytes(frameSizeBytes), Buffer.alloc(512, 7), Buffer.alloc(1024)]) {
    const frame = await compressFrame(raw)
    expect(run('zstd', ['-dc'], frame.bytes).equals(raw)).toBe(true)
    const claim = frame.class === 'zero' ? { class: frame.class } : {}
    expect((await inflateFrame(manifestOf(frame.bytes, raw.length, claim), 0, frame.bytes)).equals(raw)).toBe(true)
  }
})

test('a flipped bit anywhere in a frame is found before it is inflated', async () => {
  const { bytes } = await compressFrame(Buffer.alloc(4096, 'text'))
  const manifest = manifestOf(bytes, 4096)
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes)
    damaged.writeUInt8(damaged.readUInt8(at) ^ 4, at)
    await expect(inflateFrame(manifest, 0, damaged)).rejects.toMatchObject({
      code: 'image-corrupt',
      at: 'frame 0',
      message: expect.stringContaining(`frame 0 of the image has SHA-256 ${sha256(damaged)}`),
    })
  }
})

test('a frame of another length is refused before it is hashed', async () => {
  const { bytes } = await compressFrame(Buffer.alloc(4096, 'text'))
  const cut = bytes.subarray(0, -1)
  await expect(checkFrame(manifestOf(bytes, 4096), 0, cut)).rejects.toThrow(
    `frame 0 of the image has ${cut.length} bytes, the manifest says ${bytes.length}`,
  )
})

test.each([
  ['inflates to more than its place', zstdCompressSync(Buffer.alloc(5000, 1)), 'does not inflate to 4096 bytes'],
  ['is a bomb', zstdCompressSync(Buffer.alloc(256 * 1024 * 1024)), 'does not inflate to 4096 bytes'],
  ['inflates to less', zstdCompressSync(Buffer.alloc(4000, 1)), 'inflates to 4000 bytes, not 4096'],
  ['is cut off', zstdCompressSync(Buffer.alloc(4096, 1)).subarray(0, -3), 'does not inflate to 4096 bytes'],
  [
    'has bytes behind it',
    Buffer.concat([zstdCompressSync(Buffer.alloc(4096, 1)), Buffer.from('x')]),
    'does not inflate',
  ],
  ['is not zstd', Buffer.from('not zstd at all'), 'does not inflate to 4096 bytes'],
])('a frame with the right hash that %s is refused', async (_name, stored, words) => {
  const error = inflateFrame(manifestOf(stored, 4096), 0, stored)
  await expect(error).rejects.toMatchObject({ code: 'image-corrupt', message: expect.stringContaining(words) })
})

test('a zero frame that holds anything else is refused', async () => {
  const { bytes } = await compressFrame(Buffer.alloc(4096, 1))
  const error = inflateFrame(manifestOf(bytes, 4096, { class: 'zero' }), 0, bytes)
  await expect(error).rejects.toThrow('should hold zeros and does not')
})

test('every frame but the last has the full size', () => {
  const disk = { sizeBytes: 2 * frameSizeBytes + 512, frameSizeBytes }
  expect([0, 1, 2].map((number) => rawBytesOf(disk, number))).toEqual([frameSizeBytes, frameSizeBytes, 512])
})
