import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importImage } from './import.ts'
import { imagePaths, openLibrary } from './library.ts'
import { MiB, run, testFolder, writeTo } from './testing.ts'
import { bringOnto, checksumsOf, checkVolume, type Maker, makers, makeVolume } from './volume-testing.ts'

function maker(name: string): Maker {
  const found = makers.find((one) => one.name === name)
  if (!found) throw new Error(`no ${name}`)
  return found
}

/** A disk of a FAT and an ext4 partition and its image as Clonezilla saves one, by the tools that it uses. */
function save(folder: string, packed: readonly (readonly [string, string])[]): { image: string; disk: string } {
  const [fat, ext] = [maker('fat16'), maker('ext4 with blocks of 1 KiB')]
  const image = join(folder, 'image')
  mkdirSync(image)
  const disk = writeTo(folder, 'disk', Buffer.alloc(0))
  truncateSync(disk, 256 * MiB)
  execFileSync('sfdisk', ['--quiet', disk], {
    input: 'label: gpt\nstart=2048, size=245760\nstart=247808, size=245760\n',
  })
  for (const [name, one, sector] of [
    ['sda1.vfat', fat, 2048],
    ['sda2.ext4', ext, 247_808],
  ] as const) {
    const volume = join(folder, name)
    makeVolume(one, volume)
    run('dd', [`if=${volume}`, `of=${disk}`, 'bs=512', `seek=${sector}`, 'conv=notrunc', 'status=none'])
    const [program, suffix] = packed[name.endsWith('vfat') ? 0 : 1] ?? []
    const tool = name.endsWith('vfat') ? 'partclone.fat' : 'partclone.extfs'
    const to = join(image, `${name}-ptcl-img.${suffix}.`)
    execFileSync('sh', [
      '-c',
      `${tool} -L /dev/null -c -s ${volume} -o - 2>/dev/null | ${program} -c | split -a 2 -b 3000000 - ${to}`,
    ])
  }
  writeFileSync(join(image, 'disk'), 'sda\n')
  writeFileSync(join(image, 'parts'), 'sda1 sda2\n')
  const dump = run('sfdisk', ['-d', disk]).toString().replaceAll(disk, '/dev/sda')
  writeFileSync(join(image, 'sda-pt.sf'), dump.replace(/^\/dev\/sda(?=\d)/gm, '/dev/sda'))
  writeFileSync(join(image, 'sda-mbr'), readFileSync(disk).subarray(0, 512))
  return { image, disk }
}

test.each([
  [
    ['gzip', 'gz'],
    ['zstd', 'zst'],
  ],
] as const)(
  'a disk that Clonezilla saved by partclone, packed by %s and %s, comes back with its table and all its files',
  async (first, second) => {
    const folder = testFolder()
    const { image, disk } = save(folder, [first, second])
    const library = await openLibrary(join(folder, 'images'))
    const { digest, manifest, volumes } = await importImage({ source: image, folder: library.folder })
    expect(manifest).toMatchObject({ kind: 'disk', sizeBytes: 256 * MiB })
    expect(volumes.map(({ fileSystem, kept }) => [fileSystem, kept])).toEqual([
      ['fat', undefined],
      ['ext4', undefined],
    ])
    const target = join(folder, 'target')
    await bringOnto(target, imagePaths(library, digest).image, manifest)
    const table = (path: string) => run('sfdisk', ['-d', path]).toString().replaceAll(path, 'disk')
    expect(table(target)).toBe(table(disk))
    for (const [name, one, sector] of [
      ['fat16', maker('fat16'), 2048],
      ['ext4', maker('ext4 with blocks of 1 KiB'), 247_808],
    ] as const) {
      const part = join(folder, name)
      run('dd', [`if=${target}`, `of=${part}`, 'bs=512', `skip=${sector}`, 'count=245760', 'status=none'])
      checkVolume(one, part)
      expect(checksumsOf(one, part)).toBe(checksumsOf(one, join(folder, name === 'fat16' ? 'sda1.vfat' : 'sda2.ext4')))
    }
    // A part that is cut or missing is told.
    truncateSync(join(image, `sda2.ext4-ptcl-img.${second[1]}.aa`), 100_000)
    await expect(importImage({ source: image, folder: library.folder })).rejects.toMatchObject({ code: 'image-broken' })
  },
  120_000,
)

test('folders of Clonezilla that hold several disks, logical volumes or strange names are refused', async () => {
  const folder = testFolder()
  const library = await openLibrary(join(folder, 'images'))
  const image = join(folder, 'image')
  mkdirSync(image)
  const refused = async () =>
    await importImage({ source: image, folder: library.folder }).catch((error: Error) => error.message)
  writeFileSync(join(image, 'parts'), 'sda1')
  writeFileSync(join(image, 'disk'), 'sda sdb')
  writeFileSync(join(image, 'sda-pt.sf'), 'label: dos\n/dev/sda1 : start= 2048, size= 2048, type=83\n')
  expect(await refused()).toContain('holds 2 disks')
  writeFileSync(join(image, 'disk'), 'sda')
  writeFileSync(join(image, 'parts'), '../../etc')
  expect(await refused()).toContain('has a file parts that cannot be read')
  writeFileSync(join(image, 'parts'), 'sda1 sda1')
  expect(await refused()).toContain('names one thing twice')
  writeFileSync(join(image, 'parts'), 'sda2')
  expect(await refused()).toContain('has no place for sda2')
  writeFileSync(join(image, 'parts'), 'sda1')
  // Whoever opened it to read would wait for somebody to write.
  run('mkfifo', [join(image, 'sda1.ext4-ptcl-img.gz.aa')])
  expect(await refused()).toContain('has sda1.ext4-ptcl-img.gz.aa, which is no file')
})
