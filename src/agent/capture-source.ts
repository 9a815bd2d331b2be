// Which bytes a capture takes: one disk by the words of its order, or one partition of it. Nothing is written here.
import type { CaptureWork } from '../contract/capture-types.ts'
import { describe } from '../model/choose-disk.ts'
import { Failure } from '../model/failure.ts'
import { diskFits } from '../model/host.ts'
import type { SeenDisk } from './inventory.ts'
import { partitionsOf } from './volumes.ts'

/** A range of a device. */
export type CaptureSource = {
  readonly disk: SeenDisk
  /** The disk, or the copy-on-write view of it. */
  readonly path: string
  readonly offset: number
  readonly sizeBytes: number
}

/** Finds it. Throws Failures `disk-none` and `disk-ambiguous`, which say what was seen, and `disk-error`. */
export async function chooseSource(
  disks: readonly SeenDisk[],
  work: Pick<CaptureWork, 'disk' | 'hints' | 'partition'>,
  signal: AbortSignal,
): Promise<CaptureSource> {
  const disk = chooseCaptured(disks, work)
  const whole = { disk, path: disk.path, offset: 0, sizeBytes: disk.sizeBytes }
  if (work.partition === undefined) return whole
  const partitions = await partitionsOf(disk.path, signal)
  const found = partitions.find(({ number }) => number === work.partition)
  if (found) return { ...whole, offset: found.offset, sizeBytes: found.sizeBytes }
  const numbers = partitions.map(({ number }) => number).join(', ')
  throw new Failure(
    'disk-none',
    `${disk.path} has no partition ${work.partition}; it has ${numbers === '' ? 'none' : numbers}`,
    { at: 'partition' },
  )
}

function chooseCaptured(disks: readonly SeenDisk[], { disk, hints }: Pick<CaptureWork, 'disk' | 'hints'>): SeenDisk {
  const isNamed = (one: SeenDisk) =>
    disk === undefined || disk === 'system' || [one.path, one.byPath, one.serial, one.wwn].includes(disk)
  const fitting = disks.filter((one) => isNamed(one) && diskFits(one, hints))
  const [found, another] = fitting
  if (found === undefined) {
    const seen = disks.map(describe).join('; ') || 'no disk at all'
    throw new Failure('disk-none', `no disk is \`${disk ?? 'system'}\` and meets the hints; seen: ${seen}`, {
      at: 'disk',
    })
  }
  if (another !== undefined) {
    const words = `${fitting.length} disks fit: name one by its path, serial or WWN: ${fitting.map(describe).join('; ')}`
    throw new Failure('disk-ambiguous', words, { at: 'disk' })
  }
  // To read from a disk that is read-only is no harm.
  if (found.notUsable !== undefined && !found.notUsable.includes('read-only')) {
    throw new Failure('disk-none', `${describe(found)} cannot be read as it stands: ${found.notUsable}`, { at: 'disk' })
  }
  return found
}
