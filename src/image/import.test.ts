import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { frameSizeBytes } from '../model/image.ts'
import { type ImportProgress, importImage } from './import.ts'
import { imagePaths, openLibrary, readManifest, verifyImage } from './library.ts'
import {
  leftIn,
  MiB,
  makeDisk,
  makeQcow2,
  pack,
  putGpt,
  readSeekTable,
  run,
  sha256,
  stream,
  testFolder,
  writeTo,
} from './testing.ts'

async function newLibrary() {
  const folder = testFolder()
  return await openLibrary(join(folder, 'images'))
}

test('raw and qcow2 of every kind, bare, packed and uploaded, give one image that zstd turns back into the disk', async () => {
  const library = await newLibrary()
  const folder = testFolder()
  const raw = writeTo(folder, 'disk', makeDisk(5 * MiB + 512))
  const files = [
    raw,
    makeQcow2(raw, join(folder, 'plain')),
    makeQcow2(raw, join(folder, 'zlib'), '-c', '-o', 'compression_type=zlib'),
    makeQcow2(raw, join(folder, 'zstd'), '-c', '-o', 'compression_type=zstd'),
    makeQcow2(raw, join(folder, 'old'), '-o', 'compat=0.10'),
    makeQcow2(raw, join(folder, 'small'), '-o', 'cluster_size=512'),
    makeQcow2(raw, join(folder, 'large'), '-o', 'cluster_size=2M'),
    makeQcow2(raw, join(folder, 'sub'), '-o', 'extended_l2=on,cluster_size=128k'),
    makeQcow2(raw, join(folder, 'full'), '-S', '0', '-o', 'preallocation=falloc'),
  ]
  for (const from of ['disk', 'zlib']) {
    for (const [name, args] of Object.entries(pack)) {
      files.push(writeTo(folder, `${from}.${name}`, run(name, [...args, join(folder, from)])))
    }
  }
  const sources = [
    ...files,
    ...['disk', 'zstd', 'disk.gzip', 'zlib.xz'].map((name) => stream(readFileSync(join(folder, name)))),
  ]
  const digests = new Set<string>()
  for (const source of sources) digests.add((await importImage({ source, folder: library.folder })).digest)
  expect(digests.size).toBe(1)
  const [digest = ''] = digests
  const { image } = imagePaths(library, digest)
  expect(leftIn(library.folder).sort()).toEqual([
    digest,
    join(digest, 'forms'),
    join(digest, 'image.zst'),
    join(digest, 'manifest.json'),
  ])
  run('zstd', ['-dq', image, '-o', join(folder, 'back')])
  run('cmp', [raw, join(folder, 'back')])
}, 120_000)

test('the manifest and the seek table say of every frame where it is and what it holds', async () => {
  const library = await newLibrary()
  const disk = makeDisk()
  const { digest, manifest, sizeBytes, storedBytes } = await importImage({
    source: stream(disk),
    folder: library.folder,
  })
  const { image, manifest: path } = imagePaths(library, digest)
  expect(sha256(readFileSync(path))).toBe(digest)
  expect(await readManifest(library, digest)).toEqual(manifest)
  expect([sizeBytes, storedBytes, manifest.sectorBytes]).toEqual([disk.length, statSync(image).size, 512])
  expect(manifest.frames.map((frame) => frame.class)).toEqual(['data', 'zero', 'zero', 'data'])
  const stored = readFileSync(image)
  for (const [number, row] of readSeekTable(image).entries()) {
    const frame = manifest.frames[number]
    const bytes = stored.subarray(row.at, row.at + row.stored)
    const part = disk.subarray(number * frameSizeBytes, (number + 1) * frameSizeBytes)
    expect(frame).toMatchObject({ offset: row.at, length: row.stored })
    expect(row.raw).toBe(part.length)
    expect(run('zstd', ['-dc'], bytes).equals(part)).toBe(true)
    if (frame?.class === 'data') expect([frame.sha256, frame.rawSha256]).toEqual([sha256(bytes), sha256(part)])
  }
})

test('a disk that ends within a frame of zeros keeps its size', async () => {
  const library = await newLibrary()
  const disk = Buffer.alloc(2 * frameSizeBytes + 1536)
  const { digest, manifest } = await importImage({ source: stream(disk), folder: library.folder })
  expect(manifest.frames.map((frame) => frame.class)).toEqual(['zero', 'zero', 'zero'])
  expect(run('zstd', ['-dc', imagePaths(library, digest).image]).equals(disk)).toBe(true)
  await verifyImage(library, digest)
})

test('sectors of 4096 bytes are told by where the GPT header lies', async () => {
  const library = await newLibrary()
  const disk = Buffer.alloc(8 * MiB)
  putGpt(disk, 4096)
  const { manifest } = await importImage({ source: stream(disk), folder: library.folder })
  expect(manifest.sectorBytes).toBe(4096)
})

test('a disk partitioned by sgdisk is taken for whole, and without its last sector for truncated', async () => {
  const library = await newLibrary()
  const path = writeTo(testFolder(), 'disk', Buffer.alloc(16 * MiB))
  run('sgdisk', ['--new=1:0:0', path])
  expect((await importImage({ source: path, folder: library.folder })).manifest.sectorBytes).toBe(512)
  truncateSync(path, 16 * MiB - 512)
  await expect(importImage({ source: path, folder: library.folder })).rejects.toMatchObject({
    code: 'image-broken',
    message: 'the image is truncated: its GPT describes a disk of 16777216 bytes, it ends after 16776704',
  })
})

test('two imports of one content at once give one image, and a third keeps its folder', async () => {
  const library = await newLibrary()
  const disk = makeDisk()
  const imports = [1, 2].map(() => importImage({ source: stream(disk), folder: library.folder }))
  const [one, two] = await Promise.all(imports)
  expect(one?.digest).toBe(two?.digest)
  const digest = one?.digest ?? ''
  const before = statSync(imagePaths(library, digest).image).ino
  await importImage({ source: stream(disk), folder: library.folder })
  expect(statSync(imagePaths(library, digest).image).ino).toBe(before)
  expect(readdirSync(library.folder).sort()).toEqual([digest, 'incoming'].sort())
})

test('importing again heals an image whose stored bytes were damaged', async () => {
  const library = await newLibrary()
  const disk = makeDisk()
  const { digest } = await importImage({ source: stream(disk), folder: library.folder })
  const { image } = imagePaths(library, digest)
  const bytes = readFileSync(image)
  bytes.writeUInt8(bytes.readUInt8(MiB) ^ 1, MiB)
  writeFileSync(image, bytes)
  await expect(verifyImage(library, digest)).rejects.toMatchObject({ code: 'image-corrupt', at: 'frame 0' })
  await importImage({ source: stream(disk), folder: library.folder })
  await verifyImage(library, digest)
  expect(readdirSync(join(library.folder, 'incoming'))).toEqual([])
})

test('progress grows to the full sizes and is told at a bounded rate', async () => {
  const library = await newLibrary()
  const disk = makeDisk(40 * MiB)
  const path = writeTo(testFolder(), 'disk', disk)
  const told: ImportProgress[] = []
  const start = performance.now()
  const { storedBytes } = await importImage({ source: path, folder: library.folder, onProgress: (p) => told.push(p) })
  expect(told.length).toBeLessThanOrEqual((performance.now() - start) / 250 + 2)
  expect(told.at(-1)).toEqual({
    readBytes: disk.length,
    diskBytes: disk.length,
    diskBytesTotal: disk.length,
    storedBytes,
  })
  for (const [i, { diskBytes }] of told.entries()) expect(diskBytes).toBeGreaterThanOrEqual(told[i - 1]?.diskBytes ?? 0)
})
