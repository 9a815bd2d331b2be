// From the layout to devices: chooses each disk, checks everything that can be checked, and only then wipes and writes
// tables. Nothing is written when it throws before step `layout`.
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { EraseMethod, Layout, LayoutDisk, RedeployMode } from '../model/layout.ts'
import { chooseDisk, describe } from './choose-disk.ts'
import { eraseDisk } from './erase.ts'
import type { Look, SeenDisk } from './inventory.ts'
import type { Place } from './place.ts'
import { wipe } from './write.ts'

export type Preparation = {
  readonly look: Look
  readonly layout: Layout
  /** The manifest of every image that the layout names, by reference. */
  readonly manifests: ReadonlyMap<string, Manifest>
  /** Stays zero. */
  readonly zeros: Buffer
  /** Unless `full`, what lies where a whole-disk image goes is left for it to be compared with. */
  readonly redeploy: RedeployMode
  /** How an erase shows: `begin` when each begins, with the size of its disk. */
  readonly onErase: ErasingReport
  /** A line for the timeline. */
  readonly tell: (kind: string, text: string) => Promise<unknown>
}

export type ErasingReport = {
  readonly begin: (sizeBytes: number) => void
  readonly progress: (doneBytes: number) => void
  /** `disk` as the setup names it. */
  readonly erased: (disk: string, erasure: { readonly text: string; readonly seconds: number }) => void
}

/** Every place of the layout, as a device. Throws Failures `disk-none`, `disk-ambiguous`, `image-too-large`, `disk-error`. */
export async function prepare(work: Preparation, signal: AbortSignal): Promise<readonly Place[]> {
  const { layout, manifests, zeros, tell } = work
  const places: Place[] = []
  for (const disk of layout.disks) {
    const image = imageOf(disk)
    const manifest = manifests.get(image)
    if (manifest === undefined) throw new Failure('bad-input', `the service sent no order for the image ${image}`)
    const seen: SeenDisk = chooseDisk(work.look.disks, disk.hints, manifest)
    const holds = disk.erase !== 'none' ? 'nothing' : work.redeploy === 'full' ? undefined : 'old'
    await tell(
      'disk-chosen',
      `${describe(seen)} for ${image}: ${holds === 'old' ? 'looking what it holds' : 'wiping it'}`,
    )
    signal.throwIfAborted()
    if (disk.erase !== 'none') await erase(work, { seen, name: disk.name, method: disk.erase }, signal)
    if (holds !== 'old') await wipe(seen, zeros, signal)
    places.push({ name: disk.name, content: { kind: 'image', image }, device: seen, disk: seen, holds })
  }
  return places
}

/** Erases one disk of the setup, whatever comes onto it. */
async function erase(
  { zeros, tell, onErase }: Preparation,
  disk: { readonly seen: SeenDisk; readonly name: string; readonly method: Exclude<EraseMethod, 'none'> },
  signal: AbortSignal,
): Promise<void> {
  const { seen, name, method } = disk
  onErase.begin(seen.sizeBytes)
  const erasing = { disk: seen, method, zeros, tell, onProgress: onErase.progress }
  onErase.erased(name, await eraseDisk(erasing, signal))
}

function imageOf({ name, content }: LayoutDisk): string {
  if (content?.kind === 'image') return content.image
  throw new Failure('bad-input', `this agent brings whole-disk images only, and disk ${name} is to hold something else`)
}
