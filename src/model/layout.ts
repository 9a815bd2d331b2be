// What a setup puts on the disks of a host: partition tables, arrays, volume groups, and what lies in each place. Plain
// data; setup-layout.ts reads it from the document, layout-rules.ts says what makes no sense, the agent brings it about.
import type { DiskHint } from './host.ts'
import { type ImageReference, parseImageReference } from './image.ts'

export const fileSystemTypes = ['ext4', 'xfs', 'btrfs', 'vfat', 'ntfs'] as const
export type FileSystemType = (typeof fileSystemTypes)[number]

/** `keep`: the table that is there stays; its partitions are named by number and may only be kept or given new content. */
export const tableKinds = ['gpt', 'mbr', 'keep'] as const
export type TableKind = (typeof tableKinds)[number]

/** What is done to a whole disk before anything is written, beyond wiping its signatures. */
export const eraseMethods = ['none', 'discard', 'zero', 'secure'] as const
export type EraseMethod = (typeof eraseMethods)[number]

/**
 * Whether what a disk holds is compared first and only the rest is fetched and written; `auto` samples the disk and
 * decides.
 */
export const redeployModes = ['full', 'difference', 'auto'] as const
export type RedeployMode = (typeof redeployModes)[number]

export const raidLevels = ['0', '1', '10'] as const
export type RaidLevel = (typeof raidLevels)[number]

/** Exactly one of the fields, or none: the rest of what is free, which only one place of a table or group may take. */
export type Size = { readonly sizeBytes?: number | undefined; readonly sizePercent?: number | undefined }

/**
 * What lies in a place. `empty`: nothing is written, old signatures are wiped. `keep`: what is there stays, and must be
 * there. `image`: the bytes of an image as they are. `filesystem`: created; with `image` a root file system (tar) is
 * unpacked into it. `member`: part of the array or volume group `of`.
 */
export type Content =
  | { readonly kind: 'empty' }
  | { readonly kind: 'keep' }
  | { readonly kind: 'image'; readonly image: string }
  | {
      readonly kind: 'filesystem'
      readonly filesystem: FileSystemType
      readonly label?: string | undefined
      readonly uuid?: string | undefined
      readonly mount?: string | undefined
      readonly options?: string | undefined
      readonly image?: string | undefined
    }
  | { readonly kind: 'swap'; readonly label?: string | undefined; readonly uuid?: string | undefined }
  | { readonly kind: 'member'; readonly of: string }

export const contentKinds = [
  'empty',
  'keep',
  'image',
  'filesystem',
  'swap',
  'member',
] as const satisfies Content['kind'][]

export type Partition = Size & {
  /** As the table counts them, from 1. */
  readonly number: number
  readonly startBytes?: number | undefined
  /** linux, esp, bios-boot, swap, msr, windows, raid, lvm; a GUID or two hexadecimal digits say it exactly. */
  readonly type: string
  /** The name in a GPT. */
  readonly label?: string | undefined
  readonly uuid?: string | undefined
  readonly content: Content
}

/** Either a table with partitions, or content of the whole disk. */
export type LayoutDisk = {
  readonly name: string
  readonly hints: readonly DiskHint[]
  readonly erase: EraseMethod
  readonly table?: TableKind | undefined
  readonly partitions: readonly Partition[]
  readonly content?: Content | undefined
}

export type LayoutArray = { readonly name: string; readonly level: RaidLevel; readonly content: Content }
export type LayoutVolume = Size & { readonly name: string; readonly content: Content }
export type LayoutGroup = { readonly name: string; readonly volumes: readonly LayoutVolume[] }

export type Layout = {
  readonly disks: readonly LayoutDisk[]
  readonly arrays: readonly LayoutArray[]
  readonly groups: readonly LayoutGroup[]
}

/** A place of the layout by its name: `system` (a disk), `system:2` (its partition), `md0` (an array), `vg0/root`. */
export type NamedContent = { readonly place: string; readonly content: Content }

/** Every place that can hold something, in the order of the document. */
export function placesOf(layout: Layout): NamedContent[] {
  return [
    ...layout.disks.flatMap(({ name, content, partitions }) => [
      ...(content === undefined ? [] : [{ place: name, content }]),
      ...partitions.map((partition) => ({ place: `${name}:${partition.number}`, content: partition.content })),
    ]),
    ...layout.arrays.map(({ name, content }) => ({ place: name, content })),
    ...layout.groups.flatMap(({ name, volumes }) =>
      volumes.map((volume) => ({ place: `${name}/${volume.name}`, content: volume.content })),
    ),
  ]
}

/** The images that the layout names, each once, in the order of the document. */
export function imagesOf(layout: Layout): ImageReference[] {
  const names = placesOf(layout).flatMap(({ content }) => ('image' in content ? (content.image ?? []) : []))
  return [...new Set(names)].map(parseImageReference)
}
