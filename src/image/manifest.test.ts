import fc from 'fast-check'
import { expect, test } from 'vitest'
import { frameSizeBytes, type Manifest, type ManifestFrame } from '../model/image.ts'
import { frameStoredBytesMax, seekTableBytes } from './frames.ts'
import { digestOf, diskBytesMax, encodeManifest, framesMax, manifestBytesMax, parseManifest } from './manifest.ts'

const hex = (digit: string) => digit.repeat(64)

/** A right manifest of frames with these lengths; the second is zero. */
function manifestWith(lengths: readonly number[]): Manifest {
  let offset = 0
  const frames = lengths.map((length, number): ManifestFrame => {
    const place = { offset, length }
    offset += length
    return number === 1
      ? { class: 'zero', ...place }
      : { class: 'data', ...place, sha256: hex('a'), rawSha256: hex('b') }
  })
  const sizeBytes = lengths.length * frameSizeBytes - 512
  const storedBytes = offset + seekTableBytes(frames.length)
  return { format: 1, sizeBytes, frameSizeBytes, storedBytes, sectorBytes: 512, frames }
}

/** What reading these bytes, under their own digest, throws. */
const readingOf = (bytes: Buffer) => () => parseManifest(bytes, digestOf(bytes))

test('a manifest is read back as it was written, at any number of frames', () => {
  for (const count of [1, 2, 3, 4095, 4096, 4097, 10_000]) {
    const manifest = manifestWith(Array.from({ length: count }, () => 1000))
    const bytes = encodeManifest(manifest)
    expect(parseManifest(bytes, digestOf(bytes))).toEqual(manifest)
    expect(JSON.parse(bytes.toString())).toEqual(manifest)
  }
})

test('no frame takes more of the manifest than its bound allows', () => {
  const storedBytes = framesMax * frameStoredBytesMax
  const frame = {
    class: 'data',
    offset: storedBytes,
    length: frameStoredBytesMax,
    sha256: hex('a'),
    rawSha256: hex('b'),
    extents: Array.from({ length: 16 }, () => [1000, 1000] as const),
  }
  const manifest = {
    ...manifestWith([1]),
    sizeBytes: diskBytesMax,
    storedBytes,
    frames: [frame, frame] as ManifestFrame[],
  }
  const twice = encodeManifest(manifest).length
  const perFrame = twice - encodeManifest({ ...manifest, frames: manifest.frames.slice(1) }).length
  expect(perFrame * framesMax + twice).toBeLessThan(manifestBytesMax)
})

test('format 2 says the kind, what is free, and what of a frame is to be written; in one way only', () => {
  const place = { offset: 0, length: 100 }
  const extents = [
    [0, 3],
    [7, 1017],
  ] as const
  const data = { class: 'data', ...place, sha256: hex('a'), rawSha256: hex('b'), extents } as const
  const frames: ManifestFrame[] = [data, { class: 'free', offset: 100, length: 50 }]
  const storedBytes = 150 + seekTableBytes(2)
  const sizes = { sizeBytes: 2 * frameSizeBytes, frameSizeBytes, storedBytes, sectorBytes: 512 } as const
  const manifest: Manifest = { format: 2, kind: 'partition', ...sizes, frames }
  const bytes = encodeManifest(manifest)
  expect(parseManifest(bytes, digestOf(bytes))).toEqual(manifest)
  const wrong: readonly (readonly [unknown, string])[] = [
    [[], 'of 0 runs'],
    [[[0, 1024]], 'that leave nothing out'],
    [
      [
        [0, 3],
        [3, 1],
      ],
      'extents 3, not a whole number from 4',
    ],
    [[[0, 1025]], 'extents 1025'],
    [[[1024, 1]], 'extents 1024'],
    [[[5, 0]], 'extents 0'],
    [[[5]], 'not a block and a count'],
    [Array.from({ length: 17 }, (_, index) => [index * 2, 1]), 'of 17 runs, not 1 to 16'],
    ['all', 'not a list'],
  ]
  for (const [value, words] of wrong) {
    const fields = JSON.parse(bytes.toString())
    fields.frames[0].extents = value
    expect(readingOf(Buffer.from(JSON.stringify(fields)))).toThrow(words)
  }
  for (const change of [{ kind: 'iso' }, { kind: undefined }, { format: 1 }]) {
    const fields = { ...JSON.parse(bytes.toString()), ...change }
    expect(readingOf(Buffer.from(JSON.stringify(fields)))).toThrow('has kind')
  }
})

test('another digest is refused with both', () => {
  const bytes = encodeManifest(manifestWith([100]))
  expect(() => parseManifest(bytes, hex('0'))).toThrow(`has digest ${digestOf(bytes)}, expected ${hex('0')}`)
})

test.each<[string, (fields: Record<string, unknown>) => void, string]>([
  ['format', (m) => (m.format = 3), 'has format 3; this version of HaDeS reads formats 1 and 2'],
  ['sizeBytes', (m) => (m.sizeBytes = -1), 'has sizeBytes -1, not a whole number from 1 to'],
  ['a fraction', (m) => (m.sizeBytes = 0.5), 'has sizeBytes 0.5, not a whole number'],
  ['a disk beyond the bound', (m) => (m.sizeBytes = diskBytesMax + 1), 'has sizeBytes'],
  ['frameSizeBytes', (m) => (m.frameSizeBytes = 1024), 'has frameSizeBytes 1024, not 4194304'],
  ['storedBytes', (m) => (m.storedBytes = 7), 'has storedBytes 7; its frames end at 300 and the seek table takes 41'],
  ['sectorBytes', (m) => (m.sectorBytes = 520), 'has sectorBytes 520, neither 512 nor 4096'],
  ['missing sectorBytes', (m) => delete m.sectorBytes, 'has sectorBytes missing'],
  ['frames', (m) => (m.frames = 'none'), 'has frames "none", not a list'],
  ['a frame too few', (m) => (m.sizeBytes = 4 * frameSizeBytes), 'has 3 frames; a disk of 16777216 bytes takes 4'],
  ['an unknown field', (m) => (m.note = 'hi'), 'has in the manifest the unknown field "note"'],
])('a manifest with a wrong %s is refused by name', (_name, change, words) => {
  const fields = JSON.parse(encodeManifest(manifestWith([100, 100, 100])).toString())
  change(fields)
  const error = expect.objectContaining({ code: 'image-corrupt', message: expect.stringContaining(words) })
  expect(readingOf(Buffer.from(JSON.stringify(fields)))).toThrow(error)
})

test.each<[string, Record<string, unknown>, string]>([
  ['a class', { class: 'dontcare' }, 'has frame 2 of class "dontcare", neither data nor zero'],
  ['an offset', { offset: 199 }, 'has frame 2 at offset 199; the one before it ends at 200'],
  ['a length', { length: 0 }, 'has frame 2 length 0, not a whole number from 1 to'],
  ['a length beyond any frame', { length: frameStoredBytesMax + 1 }, 'has frame 2 length'],
  ['a hash', { sha256: hex('A') }, 'has frame 2 sha256 "AAAA'],
  ['a raw hash', { rawSha256: undefined }, 'has frame 2 rawSha256 missing'],
  ['a field', { extra: 1 }, 'has in frame 2 the unknown field "extra"'],
])('a frame with %s that is wrong is refused by its number', (_name, change, words) => {
  const fields = JSON.parse(encodeManifest(manifestWith([100, 100, 100])).toString())
  // JSON leaves undefined fields out; an unknown class must not bring fields that it does not have.
  const frame = 'class' in change ? { offset: 200, length: 100, ...change } : { ...fields.frames[2], ...change }
  fields.frames[2] = frame
  expect(readingOf(Buffer.from(JSON.stringify(fields)))).toThrow(words)
})

test('the same content in other bytes is refused, so that one image has one digest', () => {
  const bytes = encodeManifest(manifestWith([100, 100]))
  expect(readingOf(Buffer.concat([bytes, Buffer.from(' ')]))).toThrow('is not in its canonical form')
})

test('arbitrary JSON and arbitrary bytes are refused as corrupt and nothing else', () => {
  const isCorrupt = (bytes: Buffer) => {
    expect(readingOf(bytes)).toThrow(expect.objectContaining({ code: 'image-corrupt' }))
  }
  fc.assert(fc.property(fc.json(), (text) => isCorrupt(Buffer.from(text))))
  fc.assert(fc.property(fc.uint8Array(), (bytes) => isCorrupt(Buffer.from(bytes))))
})
