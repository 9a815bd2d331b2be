// Images that mean harm, made by the thousand: real ones of every format and file system with a few bytes changed, some of them
// with their checksums made right again so that the change is believed. Each has a number, and is the same in every run with
// the same seed. What must hold is that none ends in anything but an image or a Failure, leaves nothing behind, and keeps to
// its time and memory.
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Failure } from '../model/failure.ts'
import { TarReader } from '../protocol/tar.ts'
import { findFreeSpace } from './free-space.ts'
import {
  changeAt,
  changed,
  type Dice,
  type DiskSeed,
  diceOf,
  diskSeeds,
  fileSeeds,
  hostileFile,
  hostileFolder,
  hostileTar,
  mendGpt,
  type SavedSeed,
  savedSeed,
  tarSeeds,
} from './hostile-inputs.ts'
import { importImage } from './import.ts'
import { openLibrary } from './library.ts'
import { partitionTableBytes, readPartitionTable } from './partition-table.ts'

const MiB = 1024 * 1024

export type HostileResult = {
  readonly inputs: number
  readonly byKind: Readonly<Record<string, number>>
  /** How many were taken for images nevertheless: of those, what is free is only less or more. */
  readonly taken: number
  readonly refused: number
  readonly slowestMs: number
  readonly memoryBytes: number
}

/** A disk whose file systems or tables say what they should not. True when any of it was believed. */
async function hostileDisk(seeds: readonly DiskSeed[], dice: Dice): Promise<boolean> {
  const seed = seeds[dice(seeds.length)]
  if (seed === undefined) return false
  const { content, places } = seed
  const place = () => {
    const block = dice(3) === 0 ? places[dice(Math.min(places.length, 4))] : places[dice(places.length)]
    // Numbers lie at even places, most of them near the start of their structure.
    return (block ?? 0) + (dice(2) === 0 ? dice(512) & ~1 : dice(4088) & ~1)
  }
  const changes = Array.from({ length: 1 + dice(4) }, () => changeAt(place(), dice))
  const disk = changed(content, changes)
  const whole = dice(2) === 0 ? changed(disk, await mendGpt(disk)) : disk
  const table = readPartitionTable(await whole.read(0, partitionTableBytes))
  const { map, volumes } = await findFreeSpace(whole, table, AbortSignal.timeout(60_000))
  for (let frame = 0; frame * 4 * MiB < whole.sizeBytes; frame++) map.runsOf(frame, 4 * MiB)
  if (map.isFree(0)) throw new Error('the start of the disk is called free')
  for (const { offset, sizeBytes } of volumes) {
    if (offset + sizeBytes > whole.sizeBytes) throw new Error('a volume reaches beyond the disk')
  }
  return volumes.some(({ freeBytes }) => freeBytes > 0)
}

/** True when the archive would be published. */
function readTar(bytes: Buffer, dice: Dice): boolean {
  const reader = new TarReader({ allowsDevices: dice(2) === 0 })
  const chunk = 1 + dice(20_000)
  try {
    for (let at = 0; at < bytes.length; at += chunk) reader.push(bytes.subarray(at, at + chunk))
    reader.end()
    return true
  } catch (error) {
    // What it says of an archive is an Error itself; a defect is one of its kinds.
    if (error instanceof TypeError || error instanceof RangeError) throw error
    return false
  }
}

/** No input may take so long, on a machine that does other things beside. */
const inputMsMax = 60_000
/** What the process may grow by: the largest structures, and what the collector has not come to. */
const memoryBytesMax = 1024 * MiB

const allowed = /^(image-broken|image-too-large|bad-input)$/

async function importHostile(library: string, source: string | AsyncIterable<Buffer>): Promise<boolean> {
  const isTaken = await importImage({ source, folder: library, signal: AbortSignal.timeout(inputMsMax) }).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Failure && allowed.test(error.code)) return false
      throw error
    },
  )
  const left = readdirSync(join(library, 'incoming'))
  if (left.length > 0) throw new Error(`an import left ${left.join(', ')} behind`)
  return isTaken
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  if (bytes.length > 0) yield bytes
}

type World = {
  readonly folder: string
  readonly library: string
  readonly disks: readonly DiskSeed[]
  readonly tars: readonly Buffer[]
  readonly files: readonly Buffer[]
  readonly saved: SavedSeed
}

/** Of twenty inputs twelve are disks, four archives read alone, three files and one a folder, to be imported. */
async function runOne(world: World, number: number, dice: Dice): Promise<readonly [string, boolean]> {
  const turn = number % 20
  if (turn < 12) return ['file systems and tables', await hostileDisk(world.disks, dice)]
  if (turn < 16) return ['tar', readTar(hostileTar(world.tars[dice(world.tars.length)] ?? Buffer.alloc(0), dice), dice)]
  if (turn < 19) {
    const isTar = dice(5) === 0
    const seeds = isTar ? world.tars : world.files
    const seed = seeds[dice(seeds.length)] ?? Buffer.alloc(0)
    const bytes = isTar ? hostileTar(seed, dice) : hostileFile(seed, dice)
    return ['imports', await importHostile(world.library, once(bytes))]
  }
  const path = join(world.folder, `folder-${number}`)
  hostileFolder(path, world.saved, dice)
  return ['folders of Clonezilla', await importHostile(world.library, path)]
}

/**
 * Runs the inputs `from` to `to`. `folder` must be empty. Throws an Error that names the number of the first that broke a
 * promise, with what it threw as cause.
 */
export async function runHostile(options: {
  readonly folder: string
  readonly seed: number
  readonly from: number
  readonly to: number
}): Promise<HostileResult> {
  const { folder } = options
  mkdirSync(join(folder, 'seeds'))
  const seeds = join(folder, 'seeds')
  const world: World = {
    folder,
    library: (await openLibrary(join(folder, 'images'))).folder,
    disks: await diskSeeds(seeds),
    tars: tarSeeds(seeds),
    files: fileSeeds(seeds),
    saved: savedSeed(seeds),
  }
  const byKind: Record<string, number> = {}
  const before = process.memoryUsage().rss
  let [taken, slowestMs, memoryBytes] = [0, 0, 0]
  try {
    for (let number = options.from; number < options.to; number++) {
      const start = performance.now()
      const [kind, isTaken] = await runOne(world, number, diceOf(Math.imul(options.seed, 1_000_003) + number)).catch(
        (cause: unknown) => {
          throw new Error(`hostile input ${number} of seed ${options.seed}`, { cause })
        },
      )
      const ms = performance.now() - start
      if (ms > inputMsMax) throw new Error(`hostile input ${number} took ${Math.round(ms)} ms`)
      byKind[kind] = (byKind[kind] ?? 0) + 1
      if (isTaken) taken++
      slowestMs = Math.max(slowestMs, ms)
      memoryBytes = Math.max(memoryBytes, process.memoryUsage().rss - before)
      if (memoryBytes > memoryBytesMax)
        throw new Error(`hostile input ${number} made the process grow by ${memoryBytes} bytes`)
    }
  } finally {
    for (const { content } of world.disks) await content.close()
  }
  // All that was written lies in the library, in the seeds and in the folders that were made here.
  const strange = readdirSync(folder).filter((name) => !/^(seeds|images|folder-\d+)$/.test(name))
  if (strange.length > 0) throw new Error(`something wrote ${strange.join(', ')}`)
  const inputs = options.to - options.from
  return { inputs, byKind, taken, refused: inputs - taken, slowestMs, memoryBytes }
}
