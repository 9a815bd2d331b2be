// Which disk each name of a layout takes: exactly one must meet its hints, and an image must find it free and of its
// kind. Pure: the wrong disk must not be written to whatever happens, so this rule is kept where a table of cases can test
// it, and the plan of a rollout and the agent decide by the same one.
import { Failure } from './failure.ts'
import { type DiskHint, type DiskIdentity, diskFits } from './host.ts'
import type { Manifest } from './image.ts'
import type { LayoutDisk } from './layout.ts'

/** A disk that may be chosen. `notUsable`: why nothing may be written to it now. */
export type Candidate = DiskIdentity & { readonly sectorBytes: number; readonly notUsable?: string | undefined }

/**
 * The disk of each name of the layout. Names with hints choose among all disks, then a name without takes the one that is
 * left. Throws Failure `disk-none` or `disk-ambiguous` (both say what was seen and why each did not fit, or who wants the
 * same disk).
 */
export function chooseDisks<D extends Candidate>(
  disks: readonly D[],
  wanted: readonly Pick<LayoutDisk, 'name' | 'hints'>[],
): ReadonlyMap<string, D> {
  const chosen = new Map<string, D>()
  const takerOf = (disk: D) => [...chosen].find(([, taken]) => taken === disk)?.[0]
  for (const { name, hints } of wanted.filter((one) => one.hints.length > 0)) {
    const disk = theOne(
      disks.filter((one) => diskFits(one, hints)),
      {
        several: `meet the hints of disk \`${name}\``,
        none: `no disk meets the hints of disk \`${name}\``,
        unfit: disks.flatMap((one) => (diskFits(one, hints) ? [] : `${describe(one)}: ${unmetHints(one, hints)}`)),
      },
    )
    const other = takerOf(disk)
    if (other !== undefined) {
      throw new Failure('disk-ambiguous', `disk \`${other}\` and disk \`${name}\` both take ${describe(disk)}`)
    }
    chosen.set(name, disk)
  }
  for (const { name } of wanted.filter((one) => one.hints.length === 0)) {
    const left = disks.filter((disk) => takerOf(disk) === undefined)
    const unfit = disks.flatMap((disk) => {
      const taker = takerOf(disk)
      return taker === undefined ? [] : `${describe(disk)}: taken by disk \`${taker}\``
    })
    const free = `left for disk \`${name}\`, which has no hints`
    chosen.set(name, theOne(left, { several: `are ${free}`, none: `no disk is ${free}`, unfit }))
  }
  return chosen
}

/**
 * What an image needs never decides between two disks that fit: a disk that is in use is refused later, not passed over
 * here. `unfit`: the other disks, each with why it is not meant.
 */
function theOne<D extends Candidate>(
  fitting: readonly D[],
  { several, none, unfit }: { readonly several: string; readonly none: string; readonly unfit: readonly string[] },
): D {
  const [disk, another] = fitting
  if (disk === undefined) throw new Failure('disk-none', `${none}; seen: ${unfit.join('; ') || 'no disk at all'}`)
  if (another === undefined) return disk
  throw new Failure(
    'disk-ambiguous',
    `${fitting.length} disks ${several}: ${fitting.map(describe).join('; ')}` +
      (unfit.length > 0 ? `; not these: ${unfit.join('; ')}` : ''),
  )
}

/** Throws Failure `disk-none` when nothing may be written to the chosen disk. */
export function refuseUnusable(disk: Candidate): void {
  if (disk.notUsable === undefined) return
  throw new Failure(
    'disk-none',
    `the one disk that meets the hints, ${describe(disk)}, cannot be used: ${disk.notUsable}`,
  )
}

/**
 * Throws when the disk cannot hold the bytes of an image of a whole disk: Failure `disk-none` for other sectors,
 * `image-too-large` with both sizes.
 */
export function refuseMisfit(disk: Candidate, image: Pick<Manifest, 'sizeBytes' | 'sectorBytes'>): void {
  if (disk.sectorBytes !== image.sectorBytes) {
    const why = `it has sectors of ${disk.sectorBytes} bytes, and the image's partition table assumes ${image.sectorBytes}`
    throw new Failure('disk-none', `the one disk that meets the hints, ${describe(disk)}, cannot be used: ${why}`)
  }
  if (image.sizeBytes > disk.sizeBytes) {
    throw new Failure(
      'image-too-large',
      `the image takes a disk of ${image.sizeBytes} bytes, ${disk.path} has ${disk.sizeBytes} bytes`,
    )
  }
}

function unmetHints(disk: DiskIdentity, hints: readonly DiskHint[]): string {
  const unmet = hints.filter((hint) => !diskFits(disk, [hint]))
  return `not ${unmet.map((hint) => `${hint.property} ${hint.operator} ${hint.value}`).join(', not ')}`
}

/** One disk in words, with all that a hint can name. */
export function describe(disk: DiskIdentity): string {
  const words = [
    `${disk.sizeBytes} bytes`,
    disk.rotational ? 'rotational' : 'not rotational',
    ...(['transport', 'model', 'serial', 'wwn', 'byPath'] as const)
      .filter((name) => disk[name] !== undefined)
      .map((name) => `${name} ${disk[name]}`),
  ]
  return `${disk.path} (${words.join(', ')})`
}
