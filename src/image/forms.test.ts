import { spawn } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { choosePieceBytes } from '../model/swarm.ts'
import { encodeBmap } from '../protocol/bmap.ts'
import { infoHashOf } from '../protocol/torrent.ts'
import { computeForms, FormsHasher, mappedRangesOf, readForms, torrentInfoOf } from './forms.ts'
import { importImage } from './import.ts'
import { imagePaths, type Library, openLibrary, readManifest, removeImage } from './library.ts'
import { MiB, makeDisk, run, stream, testFolder } from './testing.ts'
import { checksumsOf, checkVolume, makers, makeVolume } from './volume-testing.ts'

async function libraryWithImage(disk = makeDisk()) {
  const folder = testFolder()
  const library = await openLibrary(join(folder, 'images'))
  const { digest } = await importImage({ source: stream(disk), folder: library.folder })
  return { folder, library, digest, paths: imagePaths(library, digest) }
}

/** What the forms must be, computed from all bytes at once. */
function expectedForms(bytes: Buffer, pieceBytes = choosePieceBytes(bytes.length)) {
  const hashes: Buffer[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    hashes.push(
      createHash('sha1')
        .update(bytes.subarray(at, at + pieceBytes))
        .digest(),
    )
  }
  const fields = {
    totalBytes: bytes.length,
    pieceBytes,
    pieceHashes: Buffer.concat(hashes),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  }
  return { ...fields, infoHash: infoHashOf(torrentInfoOf(fields)) }
}

function incomingIn(library: Library): string[] {
  return readdirSync(join(library.folder, 'incoming'))
}

test('an image is published with its forms', async () => {
  const { library, digest, paths } = await libraryWithImage()
  expect(existsSync(paths.forms)).toBe(true)
  expect(await readForms(library, digest)).toEqual(expectedForms(readFileSync(paths.image)))
})

test.each(['is missing', 'is damaged', 'is cut short', 'is of a later format'])(
  'where the file %s it is made again, once for all who ask',
  async (how) => {
    const { library, digest, paths } = await libraryWithImage()
    const whole = readFileSync(paths.forms)
    if (how === 'is missing') rmSync(paths.forms)
    if (how === 'is damaged') writeFileSync(paths.forms, whole.with(whole.length - 100, 0x7e))
    if (how === 'is cut short') truncateSync(paths.forms, Math.floor(whole.length / 2))
    if (how === 'is of a later format') writeFileSync(paths.forms, 'd6:formati2ee')
    const all = await Promise.all([1, 2, 3].map(() => readForms(library, digest)))
    expect(all[0]).toEqual(expectedForms(readFileSync(paths.image)))
    expect(all[1]).toBe(all[0])
    expect(all[2]).toBe(all[0])
    expect(readFileSync(paths.forms).equals(whole)).toBe(true)
    expect(incomingIn(library)).toEqual([])
  },
)

test('of a damaged image no forms are made, and the failure names the place', async () => {
  const { library, digest, paths } = await libraryWithImage()
  const manifest = await readManifest(library, digest)
  rmSync(paths.forms)
  const whole = readFileSync(paths.image)
  const places = manifest.frames.map((frame, number) => [frame.offset + frame.length - 1, `frame ${number}`] as const)
  expect(manifest.frames.map((frame) => frame.class)).toContain('zero')
  for (const [at, place] of [...places, [whole.length - 20, 'seek table'] as const]) {
    writeFileSync(paths.image, whole.with(at, (whole[at] ?? 0) ^ 1))
    await expect(readForms(library, digest)).rejects.toMatchObject({ code: 'image-corrupt', at: place })
  }
  writeFileSync(paths.image, whole.subarray(0, -1))
  await expect(readForms(library, digest)).rejects.toMatchObject({ code: 'image-corrupt', at: 'image.zst' })
  expect(existsSync(paths.forms)).toBe(false)
  expect(incomingIn(library)).toEqual([])
  // The failure is not kept either.
  writeFileSync(paths.image, whole)
  expect(await readForms(library, digest)).toEqual(expectedForms(readFileSync(paths.image)))
})

test('forms that are there are not given out for an image that was cut short', async () => {
  const { library, digest, paths } = await libraryWithImage()
  truncateSync(paths.image, 5000)
  await expect(readForms(library, digest)).rejects.toMatchObject({ code: 'image-corrupt', at: 'image.zst' })
})

test('an image that is not there, or removed meanwhile, has no forms', async () => {
  const { library, digest, paths } = await libraryWithImage()
  rmSync(paths.forms)
  const forms = readForms(library, digest)
  // Whether the removal comes first or last, nothing is left behind.
  await Promise.all([forms.catch(() => {}), removeImage(library, digest)])
  expect(readdirSync(library.folder)).toEqual(['incoming'])
  expect(incomingIn(library)).toEqual([])
  await expect(readForms(library, digest)).rejects.toMatchObject({ code: 'unknown-image' })
  expect(() => readForms(library, '../etc')).toThrow(expect.objectContaining({ code: 'unknown-image' }))
})

test.each([16_384, MiB, 3 * MiB, 4 * MiB])(
  'pieces of %i bytes are hashed right however the bytes come',
  async (pieceBytes) => {
    const bytes = randomFillSync(Buffer.alloc(9 * MiB + 333))
    const hasher = new FormsHasher({ totalBytes: bytes.length, pieceBytes })
    for (let at = 0, length = 1; at < bytes.length; at += length, length = (length * 7) % (5 * MiB)) {
      await hasher.update(bytes.subarray(at, at + length))
    }
    expect(hasher.finish()).toEqual(expectedForms(bytes, pieceBytes))
  },
)

test('computing can be cancelled', async () => {
  const { paths, library, digest } = await libraryWithImage()
  const manifest = await readManifest(library, digest)
  await expect(computeForms(paths.image, manifest, { signal: AbortSignal.abort() })).rejects.toThrow('aborted')
})

test('a process killed at any moment leaves no half of the forms', async () => {
  const { library, digest, paths } = await libraryWithImage(makeDisk(24 * MiB))
  const whole = readFileSync(paths.forms)
  const script = `
    const { readForms } = await import(${JSON.stringify(join(import.meta.dirname, 'forms.ts'))})
    process.stdout.write('ready')
    await readForms({ folder: ${JSON.stringify(library.folder)} }, '${digest}')`
  const killWhen: (() => boolean)[] = [
    () => true,
    () => incomingIn(library).length > 0,
    () => incomingIn(library).some((name) => existsSync(join(library.folder, 'incoming', name, 'forms'))),
    () => existsSync(paths.forms),
  ]
  for (const isTime of killWhen) {
    rmSync(paths.forms, { force: true })
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = once(child, 'exit')
    await once(child.stdout, 'data')
    while (child.exitCode === null && !isTime()) await new Promise((resolve) => setImmediate(resolve))
    child.kill('SIGKILL')
    await ended
    if (existsSync(paths.forms)) expect(readFileSync(paths.forms).equals(whole)).toBe(true)
    await openLibrary(library.folder)
    expect(incomingIn(library)).toEqual([])
    expect(await readForms(library, digest)).toEqual(expectedForms(readFileSync(paths.image)))
  }
})

test('bmaptool copies image.zst by the block map onto a target, and the result is the disk', async () => {
  const disk = makeDisk()
  const { folder, library, digest, paths } = await libraryWithImage(disk)
  const manifest = await readManifest(library, digest)
  const target = join(folder, 'target')
  writeFileSync(
    join(folder, 'image.bmap'),
    encodeBmap({ sizeBytes: manifest.sizeBytes, ranges: mappedRangesOf(manifest) }),
  )
  run('bmaptool', ['-q', 'copy', '--bmap', join(folder, 'image.bmap'), paths.image, target])
  expect(readFileSync(target).equals(disk)).toBe(true)
})

/** The command truncates a target that is a plain file; what it calls does to an open file what it does to a disk. */
const copyByBmap = `import sys
from bmaptools import BmapCopy, TransRead
with open(sys.argv[2], 'rb') as bmap, open(sys.argv[3], 'r+b') as target:
    BmapCopy.BmapCopy(TransRead.TransRead(sys.argv[1]), target, bmap).copy()
`

test('free frames are not mapped, and what bmaptool brings onto a target of other bytes is a whole file system', async () => {
  const folder = testFolder()
  const maker = makers.find(({ name }) => name === 'ext4')
  if (!maker) throw new Error('no ext4')
  const at = (name: string) => join(folder, name)
  makeVolume(maker, at('volume'))
  const library = await openLibrary(at('images'))
  const { digest, manifest } = await importImage({ source: at('volume'), folder: library.folder })
  const free = manifest.frames.filter((frame) => frame.class === 'free').length
  const ranges = mappedRangesOf(manifest)
  expect(free).toBeGreaterThan(5)
  expect(ranges.length).toBe(manifest.frames.length - free)
  writeFileSync(at('image.bmap'), encodeBmap({ sizeBytes: manifest.sizeBytes, ranges }))
  writeFileSync(at('target'), Buffer.alloc(manifest.sizeBytes, 0xff))
  run('/usr/bin/python3', ['-c', copyByBmap, imagePaths(library, digest).image, at('image.bmap'), at('target')])
  checkVolume(maker, at('target'))
  expect(checksumsOf(maker, at('target'))).toBe(checksumsOf(maker, at('volume')))
})

test('zero frames are mapped: a target full of other bytes becomes the disk', async () => {
  const disk = makeDisk()
  const { folder, library, digest, paths } = await libraryWithImage(disk)
  const manifest = await readManifest(library, digest)
  const at = (name: string) => join(folder, name)
  writeFileSync(at('image.bmap'), encodeBmap({ sizeBytes: manifest.sizeBytes, ranges: mappedRangesOf(manifest) }))
  writeFileSync(at('target'), Buffer.alloc(disk.length, 0xff))
  run('/usr/bin/python3', ['-c', copyByBmap, paths.image, at('image.bmap'), at('target')])
  expect(readFileSync(at('target')).equals(disk)).toBe(true)
})
