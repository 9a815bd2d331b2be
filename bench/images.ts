// What an image costs: bytes on the wire and bytes to the disk for a Debian disk that is half full and has held more, by every
// way to keep it. `node bench/images.ts [--gib 2] [--keep FOLDER] [--skip WAY]...` builds the disk from build/os-image (make build) and prints
// a table. Needs root, for loop devices.
import { copyFile, mkdtemp, readdir, rm, stat, statfs, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { execa } from 'execa'
import { rawBytesOf, writtenRanges } from '../src/image/frames.ts'
import { importImage } from '../src/image/import.ts'
import { imagePaths, openLibrary } from '../src/image/library.ts'
import { openLoop, unmount } from '../src/lib/block-devices.ts'
import type { Manifest } from '../src/model/image.ts'

const root = join(import.meta.dirname, '..')
const MiB = 1024 ** 2

/** One way to bring the disk: what goes over the wire, what is written or zeroed, and the time to make it. */
type Row = { readonly way: string; readonly wireBytes: number; readonly diskBytes: number; readonly seconds: number }

/** Grows the demo's disk, fills its root file system to three quarters and deletes down to a half. */
async function makeDisk(path: string, sizeBytes: number): Promise<void> {
  await copyFile(join(root, 'build', 'os-image', 'current', 'debian.raw'), path)
  await truncate(path, sizeBytes)
  await execa('sgdisk', [
    '--move-second-header',
    '--delete=3',
    `--new=3:69632:${69_632 + rootBytes(sizeBytes) / 512 - 1}`,
    '--change-name=3:root',
    path,
  ])
  // No larger than its partition, or the file system would grow into the copy of the GPT.
  const place = ['--offset', String(69_632 * 512), '--sizelimit', String(rootBytes(sizeBytes))]
  const { device, detach } = await openLoop(path, place)
  const folder = await mkdtemp(join(tmpdir(), 'hades-mount-'))
  try {
    // What e2fsck mends is no failure.
    await execa('e2fsck', ['-fy', device], { reject: false })
    await execa('resize2fs', [device])
    await execa('mount', [device, folder])
    try {
      await fill(folder)
    } finally {
      await unmount(folder)
    }
  } finally {
    await detach()
    await rm(folder, { recursive: true })
  }
}

/** The root partition reaches to a MiB before the end of the disk. */
function rootBytes(sizeBytes: number): number {
  return sizeBytes - 69_632 * 512 - MiB
}

async function usedPart(folder: string): Promise<number> {
  const { blocks, bfree } = await statfs(folder)
  return (blocks - bfree) / blocks
}

/** Copies of this machine's own programs, libraries and texts, each half of the size at which a file system is "used". */
async function fill(folder: string): Promise<void> {
  const copies: string[] = []
  const sources = ['/usr/share', '/usr/bin', '/usr/lib/x86_64-linux-gnu', '/usr/lib']
  for (const source of sources) {
    for (const name of (await readdir(source)).sort()) {
      if ((await usedPart(folder)) >= 0.75) break
      const to = join(folder, 'var', `copy-${copies.length}`)
      const { stdout } = await execa('du', ['-sxk', join(source, name)], { reject: false })
      if (Number(stdout.split('\t')[0]) > 100_000) continue
      await execa('cp', ['-a', join(source, name), to], { reject: false })
      copies.push(to)
    }
  }
  await execa('sync', ['-f', folder])
  for (let index = 0; index < copies.length && (await usedPart(folder)) > 0.5; index += 2) {
    await execa('rm', ['-rf', copies[index] ?? ''])
  }
  // What was copied last goes next, if every second was too little.
  for (const copy of copies.toReversed()) {
    if ((await usedPart(folder)) <= 0.5) break
    await execa('rm', ['-rf', copy])
  }
  await execa('sync', ['-f', folder])
}

async function timed(way: string, make: () => Promise<{ wireBytes: number; diskBytes: number }>): Promise<Row> {
  const start = performance.now()
  const bytes = await make()
  return { way, ...bytes, seconds: (performance.now() - start) / 1000 }
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path)).size
}

function costOf(manifest: Manifest) {
  let [wireBytes, diskBytes] = [0, 0]
  for (const [number, frame] of manifest.frames.entries()) {
    if (frame.class === 'data') wireBytes += frame.length
    if (frame.class === 'zero') diskBytes += rawBytesOf(manifest, number)
    else for (const { length } of writtenRanges(manifest, number)) diskBytes += length
  }
  return { wireBytes, diskBytes }
}

/** Partitions of the disk and the tool of partclone for each. */
const parts = [
  ['dd', 2048, 2048],
  ['fat', 4096, 65_536],
  ['extfs', 69_632, undefined],
] as const

async function partclone(disk: string, folder: string, sizeBytes: number) {
  let [wireBytes, diskBytes] = [0, 0]
  for (const [tool, start, sectors] of parts) {
    const length = sectors === undefined ? rootBytes(sizeBytes) : sectors * 512
    const place = ['--read-only', '--offset', String(start * 512), '--sizelimit', String(length)]
    const { device, detach } = await openLoop(disk, place)
    const [image, packed] = [join(folder, `${tool}.img`), join(folder, `${tool}.zst`)]
    try {
      if (tool === 'dd') await execa('dd', [`if=${device}`, `of=${image}`, 'bs=1M', 'status=none'])
      else await execa(`partclone.${tool}`, ['-L', '/dev/null', '-q', '-c', '-s', device, '-O', image])
    } finally {
      await detach()
    }
    await execa('zstd', ['-q', '-3', '-T0', image, '-o', packed])
    wireBytes += await sizeOf(packed)
    diskBytes += await sizeOf(image)
    await rm(image)
  }
  return { wireBytes, diskBytes }
}

async function measure(disk: string, folder: string, skip: readonly string[]): Promise<Row[]> {
  const sizeBytes = await sizeOf(disk)
  const at = (name: string) => join(folder, name)
  const whole = async (path: string) => ({ wireBytes: await sizeOf(path), diskBytes: sizeBytes })
  const convert = (path: string, ...options: string[]) =>
    execa('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options, disk, path])
  const rows: Row[] = [{ way: 'raw', wireBytes: sizeBytes, diskBytes: sizeBytes, seconds: 0 }]
  const add = async (way: string, make: Parameters<typeof timed>[1]) => {
    if (!skip.includes(way)) rows.push(await timed(way, make))
  }
  await add('qcow2', async () => {
    await convert(at('qcow2'))
    return await whole(at('qcow2'))
  })
  await add('qcow2, zlib', async () => {
    await convert(at('qcow2z'), '-c')
    return await whole(at('qcow2z'))
  })
  await add('raw.zst -3', async () => {
    await execa('zstd', ['-q', '-3', '-T0', disk, '-o', at('raw.zst')])
    return await whole(at('raw.zst'))
  })
  await add('raw.xz -0', async () => {
    await execa('sh', ['-c', `xz -0 -T0 -c "$1" > "$2"`, 'sh', disk, at('raw.xz')])
    return await whole(at('raw.xz'))
  })
  await add('partclone + zstd -3', () => partclone(disk, folder, sizeBytes))
  const library = await openLibrary(at('images'))
  await add('HaDeS', async () => {
    const { digest, manifest, volumes } = await importImage({ source: disk, folder: library.folder })
    for (const { partition, fileSystem, freeBytes, kept } of volumes) {
      console.log(
        `partition ${partition}: ${fileSystem}, ${Math.round(freeBytes / MiB)} MiB free${kept ? `, kept: ${kept}` : ''}`,
      )
    }
    const cost = costOf(manifest)
    return { ...cost, wireBytes: cost.wireBytes + (await sizeOf(imagePaths(library, digest).manifest)) }
  })
  return rows
}

const { values } = parseArgs({
  options: {
    gib: { type: 'string', default: '2' },
    keep: { type: 'string' },
    skip: { type: 'string', multiple: true, default: [] },
  },
})
const sizeBytes = Number(values.gib) * 1024 * MiB
const folder = values.keep ?? (await mkdtemp(join(tmpdir(), 'hades-bench-')))
try {
  const disk = join(folder, 'disk')
  await makeDisk(disk, sizeBytes)
  const rows = await measure(disk, folder, values.skip)
  console.log('| way | on the wire | to the disk | disk bytes a wire byte | made in |\n|---|---|---|---|---|')
  for (const { way, wireBytes, diskBytes, seconds } of rows) {
    const mib = (bytes: number) => `${Math.round(bytes / MiB)} MiB`
    console.log(
      `| ${way} | ${mib(wireBytes)} | ${mib(diskBytes)} | ${(sizeBytes / wireBytes).toFixed(2)} | ${seconds.toFixed(1)} s |`,
    )
  }
} finally {
  if (values.keep === undefined) await rm(folder, { recursive: true, force: true })
}
