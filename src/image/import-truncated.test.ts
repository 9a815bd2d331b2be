import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importImage } from './import.ts'
import { openLibrary } from './library.ts'
import { leftIn, MiB, makeDisk, makeQcow2, pack, run, testFolder, writeTo } from './testing.ts'

/** Lengths that cut little, much, and at the borders of sectors, clusters and frames. */
function cuts(length: number): number[] {
  const near = [1, 100, 511, 512, 513, 4096, 4097, 65_536, 70_000].map((less) => length - less)
  const far = [1, 6, 71, 100, 1024, 4096, 65_536, MiB, length >> 1]
  return [...near, ...far].filter((at) => at > 0 && at < length)
}

test.each<readonly [string, (raw: string) => string]>([
  ['raw', (raw: string) => raw],
  ['qcow2', (raw: string) => makeQcow2(raw, `${raw}.q`)],
  ['qcow2 with zlib', (raw: string) => makeQcow2(raw, `${raw}.q`, '-c')],
  ['qcow2 with zstd', (raw: string) => makeQcow2(raw, `${raw}.q`, '-c', '-o', 'compression_type=zstd')],
  ...Object.entries(pack).map(
    ([name, args]) => [name, (raw: string) => writeTo(testFolder(), name, run(name, [...args, raw]))] as const,
  ),
])('no truncation of a %s image passes for the image, and none leaves anything behind', async (_name, make) => {
  const path = make(writeTo(testFolder(), 'disk', makeDisk(8 * MiB)))
  const whole = readFileSync(path)
  const { folder } = await openLibrary(join(testFolder(), 'images'))
  const { digest } = await importImage({ source: path, folder })
  const before = leftIn(folder)
  for (const length of cuts(whole.length)) {
    truncateSync(path, length)
    const error = await importImage({ source: path, folder }).then(
      // Some cuts take nothing but padding.
      (imported) => expect(imported.digest, `cut to ${length} of ${whole.length}`).toBe(digest),
      (error: unknown) => error,
    )
    if (error !== undefined) expect(error).toMatchObject({ name: 'Failure', code: 'image-broken' })
    expect(leftIn(folder)).toEqual(before)
    writeFileSync(path, whole)
  }
})
