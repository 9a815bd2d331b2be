// From the layout to devices: chooses each disk, checks everything that can be checked, and only then wipes and writes
// tables. Nothing is written when it throws before step `layout`.
import { type ApprovedDisk, checkIdentity } from '../model/approved-disk.ts'
import { chooseDisks, describe, refuseMisfit } from '../model/choose-disk.ts'
import { Failure, invariant } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { Layout, LayoutDisk } from '../model/layout.ts'
import type { Look } from './inventory.ts'
import type { Place } from './place.ts'
import { wipe } from './write.ts'

export type Preparation = {
  readonly look: Look
  readonly layout: Layout
  /** The disks of this host that may be overwritten; undefined: any that the layout chooses. */
  readonly approved?: readonly ApprovedDisk[] | undefined
  /** The manifest of every image that the layout names, by reference. */
  readonly manifests: ReadonlyMap<string, Manifest>
  /** Stays zero. */
  readonly zeros: Buffer
  /** A line for the timeline. */
  readonly tell: (kind: string, text: string) => Promise<unknown>
}

/** Every place of the layout, as a device. Throws Failures `disk-none`, `disk-ambiguous`, `disk-changed`, `image-too-large`, `disk-error`. */
export async function prepare(work: Preparation, signal: AbortSignal): Promise<readonly Place[]> {
  const { layout, manifests, zeros, tell } = work
  const places: Place[] = []
  const chosen = chooseDisks(work.look.disks, layout.disks)
  for (const [name, disk] of chosen) checkIdentity(name, disk, work.approved ?? [])
  for (const disk of layout.disks) {
    const image = imageOf(disk)
    const manifest = manifests.get(image)
    if (manifest === undefined) throw new Failure('bad-input', `the service sent no order for the image ${image}`)
    const seen = chosen.get(disk.name)
    invariant(seen, 'a disk was chosen for every name, or it was a failure')
    refuseMisfit(seen, manifest)
    await tell('disk-chosen', `${describe(seen)} for ${image}: wiping it`)
    signal.throwIfAborted()
    await wipe(seen, zeros, signal)
    places.push({ name: disk.name, content: { kind: 'image', image }, device: seen, disk: seen })
  }
  return places
}

function imageOf({ name, content }: LayoutDisk): string {
  if (content?.kind === 'image') return content.image
  throw new Failure('bad-input', `this agent brings whole-disk images only, and disk ${name} is to hold something else`)
}
