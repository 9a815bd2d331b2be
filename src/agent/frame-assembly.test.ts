import fc from 'fast-check'
import { expect, test } from 'vitest'
import { frameSizeBytes, type Manifest, type ManifestFrame } from '../model/image.ts'
import { type PieceGeometry, pieceCount } from '../model/swarm.ts'
import { createFrameAssembly } from './frame-assembly.ts'

const tableBytes = 40

function manifestOf(frames: readonly { isZero: boolean; length: number }[]): Manifest {
  let offset = 0
  const laid = frames.map(({ isZero, length }): ManifestFrame => {
    const place = { offset, length }
    offset += length
    return isZero ? { class: 'zero', ...place } : { class: 'data', ...place, sha256: '', rawSha256: '' }
  })
  const sizeBytes = frames.length * frameSizeBytes
  return { format: 1, sizeBytes, frameSizeBytes, storedBytes: offset + tableBytes, sectorBytes: 512, frames: laid }
}

/** The pieces that bytes of a frame lie in, counted byte by byte. */
function piecesOf(manifest: Manifest, number: number, { pieceBytes }: PieceGeometry): Set<number> {
  const { offset, length } = manifest.frames[number] ?? { offset: 0, length: 0 }
  return new Set(Array.from({ length }, (_, byte) => Math.floor((offset + byte) / pieceBytes)))
}

const worlds = fc
  .record({
    frames: fc.array(fc.record({ isZero: fc.boolean(), length: fc.integer({ min: 1, max: 60 }) }), {
      minLength: 1,
      maxLength: 25,
    }),
    pieceBytes: fc.integer({ min: 1, max: 100 }),
    seed: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 8, maxLength: 8 }),
  })
  .map(({ frames, pieceBytes, seed }) => {
    const manifest = manifestOf(frames)
    const geometry = { totalBytes: manifest.storedBytes, pieceBytes }
    // A number for each piece and frame, from the seed: the order of arrival, and after how many pieces it is written.
    const chance = (index: number) => ((seed[index % 8] ?? 0) * 7919 + index * 0.61803) % 1
    const order = Array.from({ length: pieceCount(geometry) }, (_, piece) => piece).sort(
      (a, b) => chance(a) - chance(b),
    )
    return { manifest, geometry, order, chance }
  })

test('in any order of pieces each data frame is whole exactly when its last piece comes', () => {
  fc.assert(
    fc.property(worlds, ({ manifest, geometry, order }) => {
      const assembly = createFrameAssembly(manifest, geometry)
      const here = new Set<number>()
      const told: number[] = []
      for (const piece of order) {
        here.add(piece)
        told.push(...assembly.arrived(piece).whole)
        const expected = manifest.frames.flatMap((frame, number) =>
          frame.class === 'data' && piecesOf(manifest, number, geometry).isSubsetOf(here) ? [number] : [],
        )
        expect(told.toSorted((a, b) => a - b)).toEqual(expected)
        // Coming again changes nothing.
        expect(assembly.arrived(piece)).toEqual({ whole: [], unneeded: [] })
      }
    }),
  )
})

test('a piece is released once, when it is here and no frame that is not written lies in it', () => {
  fc.assert(
    fc.property(worlds, ({ manifest, geometry, order, chance }) => {
      const assembly = createFrameAssembly(manifest, geometry)
      const here = new Set<number>()
      const written = new Set<number>()
      const released: number[] = []
      const waiting: number[] = []
      const check = () => {
        const expected = [...here].filter((piece) =>
          manifest.frames.every(
            (frame, number) =>
              frame.class === 'zero' || written.has(number) || !piecesOf(manifest, number, geometry).has(piece),
          ),
        )
        expect(released.toSorted((a, b) => a - b)).toEqual(expected.sort((a, b) => a - b))
      }
      const write = (number: number) => {
        written.add(number)
        released.push(...assembly.written(number))
        expect(assembly.written(number)).toEqual([])
        check()
      }
      for (const piece of order) {
        here.add(piece)
        const { whole, unneeded } = assembly.arrived(piece)
        released.push(...unneeded)
        check()
        waiting.push(...whole)
        while (waiting.length > 0 && chance(piece + waiting.length) < 0.5) {
          const [number] = waiting.splice(Math.floor(chance(piece) * waiting.length), 1)
          if (number !== undefined) write(number)
        }
      }
      for (const number of waiting) write(number)
      expect(released).toHaveLength(pieceCount(geometry))
    }),
  )
})

test('frames that other means have written are not waited for', () => {
  const manifest = manifestOf([
    { isZero: false, length: 50 },
    { isZero: false, length: 50 },
  ])
  const assembly = createFrameAssembly(manifest, { totalBytes: manifest.storedBytes, pieceBytes: 40 })
  expect(assembly.written(0)).toEqual([0])
})
