// Which disk each disk of a setup is: exactly one must meet its hints, and be free. Pure: the wrong disk must not be
// written to whatever happens, so this rule is kept where a table of cases can test it, and the plan of a rollout and
// the agent decide by the same one.
import { Failure } from './failure.ts'
import { type DiskHint, type DiskIdentity, diskFits } from './host.ts'
import type { Manifest } from './image.ts'

/** A disk as it was seen; `notUsable` says why nothing may be written to it now. */
export type Candidate = DiskIdentity & { readonly sectorBytes: number; readonly notUsable?: string | undefined }

/** A disk of the setup: its name there, and what it must be. */
export type WantedDisk = { readonly name: string; readonly hints: readonly DiskHint[] }

/**
 * Gives each name the one disk that meets every hint of its own and is no other name's. What a setup puts on a disk never
 * decides between two that fit: a disk that is in use is refused, not passed over. Throws Failure `disk-none` or
 * `disk-ambiguous`; both say what was seen and why each did not fit.
 */
export function chooseDisks<D extends Candidate>(
  disks: readonly D[],
  wanted: readonly WantedDisk[],
): ReadonlyMap<string, D> {
  const chosen = new Map<string, D>()
  const isFree = (disk: D) => ![...chosen.values()].includes(disk)
  for (let open = [...wanted]; open.length > 0; open = open.filter(({ name }) => !chosen.has(name))) {
    const candidates = open.map((one) => ({
      one,
      fitting: disks.filter((disk) => isFree(disk) && diskFits(disk, one.hints)),
    }))
    const none = candidates.find(({ fitting }) => fitting.length === 0)
    if (none !== undefined) throw noDisk(disks, none.one, chosen)
    // A name that only one disk fits takes it from the others, who may then have one left each.
    const sure = candidates.find(({ fitting }) => fitting.length === 1)
    const [first] = candidates
    if (sure?.fitting[0] === undefined) {
      throw first === undefined ? new Error('no disk is wanted') : severalDisks(disks, first.one, first.fitting)
    }
    chosen.set(sure.one.name, sure.fitting[0])
  }
  for (const { name } of wanted) {
    const disk = chosen.get(name)
    if (disk?.notUsable === undefined) continue
    const sentence = `the one disk for \`${name}\`, ${describe(disk)}, cannot be used: ${disk.notUsable}`
    throw new Failure('disk-none', sentence)
  }
  return chosen
}

/**
 * Throws when the disk cannot hold the bytes of an image of a whole disk: Failure `disk-none` for other sectors,
 * `image-too-large` with both sizes.
 */
export function refuseMisfit(disk: Candidate, image: Pick<Manifest, 'sizeBytes' | 'sectorBytes'>): void {
  if (disk.sectorBytes !== image.sectorBytes) {
    const why = `it has sectors of ${disk.sectorBytes} bytes, and the image's partition table assumes ${image.sectorBytes}`
    throw new Failure('disk-none', `${describe(disk)} cannot be used: ${why}`)
  }
  if (image.sizeBytes > disk.sizeBytes) {
    throw new Failure(
      'image-too-large',
      `the image takes a disk of ${image.sizeBytes} bytes, ${disk.path} has ${disk.sizeBytes} bytes`,
    )
  }
}

function noDisk(
  disks: readonly Candidate[],
  { name, hints }: WantedDisk,
  chosen: ReadonlyMap<string, Candidate>,
): Failure {
  const seen = disks.map((disk) => {
    const [taker] = [...chosen].find(([, other]) => other === disk) ?? []
    return `${describe(disk)}: ${taker === undefined ? unmetHints(disk, hints) : `taken by \`${taker}\``}`
  })
  const sentence = `no disk meets the setup's hints for \`${name}\`; seen: ${seen.join('; ') || 'no disk at all'}`
  return new Failure('disk-none', sentence)
}

function severalDisks(
  disks: readonly Candidate[],
  { name, hints }: WantedDisk,
  fitting: readonly Candidate[],
): Failure {
  const others = disks.filter((one) => !diskFits(one, hints))
  const rest = others.map((one) => `${describe(one)}: ${unmetHints(one, hints)}`)
  return new Failure(
    'disk-ambiguous',
    `${fitting.length} disks meet the setup's ${hints.length} hints for \`${name}\`: ${fitting.map(describe).join('; ')}` +
      (rest.length > 0 ? `; not these: ${rest.join('; ')}` : ''),
  )
}

function unmetHints(disk: Candidate, hints: readonly DiskHint[]): string {
  const unmet = hints.filter((hint) => !diskFits(disk, [hint]))
  return `not ${unmet.map((hint) => `${hint.property} ${hint.operator} ${hint.value}`).join(', not ')}`
}

/** One disk in words, with all that a hint can name. */
export function describe(disk: Candidate): string {
  const words = [
    `${disk.sizeBytes} bytes`,
    disk.rotational ? 'rotational' : 'not rotational',
    ...(['transport', 'model', 'serial', 'wwn', 'byPath'] as const)
      .filter((name) => disk[name] !== undefined)
      .map((name) => `${name} ${disk[name]}`),
  ]
  return `${disk.path} (${words.join(', ')})`
}
