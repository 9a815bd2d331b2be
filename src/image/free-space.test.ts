import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importImage } from './import.ts'
import { imagePaths, openLibrary, verifyImage } from './library.ts'
import { testFolder } from './testing.ts'
import { bringOnto, checksumsOf, checkVolume, makers, makeVolume } from './volume-testing.ts'

test.each(makers.map((maker) => [maker.name, maker] as const))(
  'the free space of %s is left out, and what is brought onto a disk of rubbish is whole',
  async (_name, maker) => {
    const folder = testFolder()
    const path = join(folder, 'volume')
    makeVolume(maker, path)
    const before = checksumsOf(maker, path)
    const library = await openLibrary(join(folder, 'images'))
    const { digest, manifest, volumes, freeBytes } = await importImage({ source: path, folder: library.folder })
    expect(volumes).toEqual([
      {
        partition: 0,
        offset: 0,
        sizeBytes: maker.sizeBytes,
        fileSystem: maker.fileSystem,
        freeBytes: expect.any(Number),
      },
    ])
    expect(freeBytes).toBeGreaterThan(maker.sizeBytes * 0.25)
    expect(manifest.kind).toBe('partition')
    await verifyImage(library, digest)
    const target = join(folder, 'target')
    await bringOnto(target, imagePaths(library, digest).image, manifest)
    checkVolume(maker, target)
    expect(checksumsOf(maker, target)).toBe(before)
  },
  120_000,
)
