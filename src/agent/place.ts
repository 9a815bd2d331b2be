// The places of a layout as they are on this host: block devices that exist, with what they are to hold.
import type { ContentView, LayoutView } from '../contract/layout-types.ts'
import type { ProofPlace } from '../contract/types.ts'
import { Failure } from '../model/failure.ts'
import type { Content, Layout } from '../model/layout.ts'
import type { SeenDisk } from './inventory.ts'

/** A block device, or a file that stands for one. */
export type Device = { readonly path: string; readonly sizeBytes: number; readonly sectorBytes: number }

export type Place = {
  /** As `system`, `system:2`, `md0`, `vg0/root`. */
  readonly name: string
  readonly content: Content
  readonly device: Device
  /** The disk that it is or lies on; undefined for arrays and volumes. */
  readonly disk?: SeenDisk | undefined
  /** Its number in the partition table of `disk`. */
  readonly partition?: number | undefined
  readonly partitionUuid?: string | undefined
  /** Of the file system or swap area, once it is there. */
  readonly uuid?: string | undefined
  /**
   * Undefined: signatures are wiped, the rest is what was there. `old`: nothing was touched, and who writes wipes first;
   * `nothing`: the disk was erased.
   */
  readonly holds?: 'old' | 'nothing' | undefined
}

/** The layout as the service sent it. Throws Failure `bad-input` when a field is missing that its kind needs. */
export function readLayout(view: LayoutView): Layout {
  return {
    disks: view.disks.map((disk) => ({
      ...disk,
      partitions: disk.partitions.map((partition) => ({ ...partition, content: readContent(partition.content) })),
      content: disk.content && readContent(disk.content),
    })),
    arrays: view.arrays.map((array) => ({ ...array, content: readContent(array.content) })),
    groups: view.groups.map((group) => ({
      ...group,
      volumes: group.volumes.map((volume) => ({ ...volume, content: readContent(volume.content) })),
    })),
  }
}

function readContent({ kind, image, filesystem, label, uuid, mount, options, of }: ContentView): Content {
  const needed = <T>(value: T | undefined, name: string): T => {
    if (value !== undefined) return value
    throw new Failure('bad-input', `the service sent content of kind ${kind} without ${name}`, { at: 'layout' })
  }
  switch (kind) {
    case 'empty':
    case 'keep':
      return { kind }
    case 'image':
      return { kind, image: needed(image, 'image') }
    case 'filesystem':
      return { kind, filesystem: needed(filesystem, 'filesystem'), label, uuid, mount, options, image }
    case 'swap':
      return { kind, label, uuid }
    case 'member':
      return { kind, of: needed(of, 'of') }
  }
}

/** What the proof says of a place. */
export function proofOfPlace(place: Place, digestOf: (image: string) => string | undefined): ProofPlace {
  const { name, content, device, partition, partitionUuid } = place
  const image = 'image' in content ? content.image : undefined
  const uuid = place.uuid ?? ('uuid' in content ? content.uuid : undefined)
  const fields = {
    partition,
    partitionUuid,
    filesystem: content.kind === 'filesystem' ? content.filesystem : undefined,
    uuid,
    label: 'label' in content ? content.label : undefined,
    mount: content.kind === 'filesystem' ? content.mount : undefined,
    image,
    digest: image === undefined ? undefined : digestOf(image),
  }
  const known = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
  return { place: name, path: device.path, sizeBytes: device.sizeBytes, kind: content.kind, ...known }
}
