// Which disk an image goes to: exactly one must meet the setup's hints, and it must be free and of the image's kind.
// Pure: the wrong disk must not be written to whatever happens, so this rule is kept where a table of cases can test it.
import { Failure } from '../model/failure.ts'
import { type DiskHint, diskFits } from '../model/host.ts'
import type { Manifest } from '../model/image.ts'
import type { SeenDisk } from './inventory.ts'

/**
 * Gives the one disk that meets every hint. What the image needs never decides between two disks that fit: a disk that
 * is in use or has other sectors is refused, not passed over. Throws Failure `disk-none`, `disk-ambiguous` (both say
 * what was seen and why each did not fit) or `image-too-large` (with both sizes).
 */
export function chooseDisk(
  disks: readonly SeenDisk[],
  hints: readonly DiskHint[],
  image: Pick<Manifest, 'sizeBytes' | 'sectorBytes'>,
): SeenDisk {
  const fitting = disks.filter((disk) => diskFits(disk, hints))
  const [disk, another] = fitting
  if (disk === undefined) {
    const seen = disks.map((one) => `${describe(one)}: ${unmetHints(one, hints)}`)
    throw new Failure('disk-none', `no disk meets the setup's hints; seen: ${seen.join('; ') || 'no disk at all'}`)
  }
  if (another !== undefined) {
    const others = disks.filter((one) => !fitting.includes(one))
    const rest = others.map((one) => `${describe(one)}: ${unmetHints(one, hints)}`)
    throw new Failure(
      'disk-ambiguous',
      `${fitting.length} disks meet the setup's ${hints.length} hints: ${fitting.map(describe).join('; ')}` +
        (rest.length > 0 ? `; not these: ${rest.join('; ')}` : ''),
    )
  }
  const refusal = disk.notUsable ?? sectorRefusal(disk, image)
  if (refusal !== undefined) {
    throw new Failure('disk-none', `the one disk that meets the hints, ${describe(disk)}, cannot be used: ${refusal}`)
  }
  if (image.sizeBytes > disk.sizeBytes) {
    throw new Failure(
      'image-too-large',
      `the image takes a disk of ${image.sizeBytes} bytes, ${disk.path} has ${disk.sizeBytes} bytes`,
    )
  }
  return disk
}

function sectorRefusal(disk: SeenDisk, image: Pick<Manifest, 'sectorBytes'>): string | undefined {
  if (disk.sectorBytes === image.sectorBytes) return undefined
  return `it has sectors of ${disk.sectorBytes} bytes, and the image's partition table assumes ${image.sectorBytes}`
}

function unmetHints(disk: SeenDisk, hints: readonly DiskHint[]): string {
  const unmet = hints.filter((hint) => !diskFits(disk, [hint]))
  return `not ${unmet.map((hint) => `${hint.property} ${hint.operator} ${hint.value}`).join(', not ')}`
}

/** One disk in words, with all that a hint can name. */
export function describe(disk: SeenDisk): string {
  const words = [
    `${disk.sizeBytes} bytes`,
    disk.rotational ? 'rotational' : 'not rotational',
    ...(['transport', 'model', 'serial', 'wwn', 'byPath'] as const)
      .filter((name) => disk[name] !== undefined)
      .map((name) => `${name} ${disk[name]}`),
  ]
  return `${disk.path} (${words.join(', ')})`
}
