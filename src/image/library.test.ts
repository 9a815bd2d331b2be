import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importImage } from './import.ts'
import { imagePaths, openLibrary, readManifest, removeImage, verifyImage } from './library.ts'
import { leftIn, makeDisk, stream, testFolder } from './testing.ts'

async function libraryWithImage() {
  const library = await openLibrary(join(testFolder(), 'deep', 'images'))
  const { digest } = await importImage({ source: stream(makeDisk()), folder: library.folder })
  return { library, digest, paths: imagePaths(library, digest) }
}

test('a removed image is gone at once and whole', async () => {
  const { library, digest } = await libraryWithImage()
  await removeImage(library, digest)
  expect(leftIn(library.folder)).toEqual([])
  const unknown = { code: 'unknown-image', message: `the library holds no image ${digest}` }
  await expect(removeImage(library, digest)).rejects.toMatchObject(unknown)
  await expect(readManifest(library, digest)).rejects.toMatchObject(unknown)
  await expect(verifyImage(library, digest)).rejects.toMatchObject(unknown)
})

test.each(['', 'incoming', '../../etc', `${'a'.repeat(63)}/`, 'A'.repeat(64)])(
  '%j is no digest and no path',
  (digest) => {
    expect(() => imagePaths({ folder: '/library' }, digest)).toThrow(expect.objectContaining({ code: 'unknown-image' }))
  },
)

test('verifying names the frame, the seek table, the size or the manifest that is damaged', async () => {
  const { library, digest, paths } = await libraryWithImage()
  const numbers: number[] = []
  const manifest = await verifyImage(library, digest, { onFrame: (number) => numbers.push(number) })
  expect(numbers).toEqual([0, 1, 2, 3])
  const whole = readFileSync(paths.image)
  const verifyFlipped = async (at: number) => {
    const damaged = Buffer.from(whole)
    damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at)
    writeFileSync(paths.image, damaged)
    await verifyImage(library, digest)
  }
  for (const [number, frame] of manifest.frames.entries()) {
    const place = { code: 'image-corrupt', at: `frame ${number}` }
    await expect(verifyFlipped(frame.offset + frame.length - 1)).rejects.toMatchObject(place)
  }
  await expect(verifyFlipped(whole.length - 20)).rejects.toMatchObject({ code: 'image-corrupt', at: 'seek table' })
  writeFileSync(paths.image, whole.subarray(0, -1))
  await expect(verifyImage(library, digest)).rejects.toMatchObject({ code: 'image-corrupt', at: 'image.zst' })
  writeFileSync(paths.manifest, '{}')
  await expect(verifyImage(library, digest)).rejects.toMatchObject({ code: 'image-corrupt', at: 'manifest' })
})

test('verifying can be cancelled', async () => {
  const { library, digest } = await libraryWithImage()
  await expect(verifyImage(library, digest, { signal: AbortSignal.abort() })).rejects.toThrow('aborted')
})

test('opening sweeps what dead processes left and nothing that may still be at work', async () => {
  const { folder } = await openLibrary(join(testFolder(), 'images'))
  const at = (name: string) => join(folder, 'incoming', name)
  const startTicks = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1)?.split(' ')[19]
  const alive = `${process.pid}-${startTicks}-${hostname()}-0123456789ab`
  const reused = `${process.pid}-1-${hostname()}-0123456789ab`
  const dead = `${2 ** 22 + 1}-5-${hostname()}-0123456789ab`
  const elsewhere = '1-5-some-other.host-0123456789ab'
  const elsewhereOld = '2-5-some-other.host-0123456789ab'
  for (const name of [alive, reused, dead, elsewhere, elsewhereOld, 'a note of mine']) {
    mkdirSync(at(name))
    writeFileSync(join(at(name), 'image.zst'), 'half')
  }
  const longAgo = new Date(Date.now() - 25 * 3600 * 1000)
  for (const path of [join(at(elsewhereOld), 'image.zst'), at(elsewhereOld)]) utimesSync(path, longAgo, longAgo)
  await openLibrary(folder)
  expect(readdirSync(join(folder, 'incoming')).sort()).toEqual([alive, elsewhere, 'a note of mine'].sort())
  expect(existsSync(join(at(alive), 'image.zst'))).toBe(true)
})
