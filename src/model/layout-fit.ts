// Whether a layout fits the images that it names, the disks that it takes and the firmware that is to start it: what can
// be said before any machine is switched on. Pure; what cannot be known is passed over here and left to the agent.

import { type Candidate, refuseMisfit } from './choose-disk.ts'
import { Failure } from './failure.ts'
import { type Content, type Layout, type LayoutDisk, type Partition, placesOf, type Size } from './layout.ts'
import type { LayoutProblem } from './layout-rules.ts'
import type { PostInstall } from './post-install.ts'

/** What is known of an image. Fields that are missing are not known. */
export type KnownImage = {
  readonly kind?: string | undefined
  readonly sizeBytes: number
  readonly sectorBytes?: 512 | 4096 | undefined
  /** All that are in it. */
  readonly fileSystems?: readonly string[] | undefined
}
export type KnownImages = ReadonlyMap<string, KnownImage>

const mib = 2 ** 20
/** A new table begins its first partition here, and a GPT keeps its copy in the last of these. */
const tableBytes = mib

/** The first place whose image cannot lie there, whatever the disk. */
export function checkImages(layout: Layout, images: KnownImages): LayoutProblem | undefined {
  for (const { place, content } of placesOf(layout)) {
    const name = imageOf(content)
    const image = name === undefined ? undefined : images.get(name)
    if (image === undefined) continue
    const why = kindProblem(layout, place, content, image) ?? sizeProblem(sizeOf(layout, place), content, image)
    if (why !== undefined) return { place, sentence: `\`${place}\`: image ${name} ${why}` }
  }
  return undefined
}

function imageOf(content: Content): string | undefined {
  return 'image' in content ? content.image : undefined
}

function kindProblem(layout: Layout, place: string, content: Content, image: KnownImage): string | undefined {
  const isTar = image.kind === 'tar'
  if (image.kind === undefined) return undefined
  if (content.kind === 'filesystem') {
    return isTar ? undefined : `is one of a ${image.kind}, and only a tar is unpacked into a file system`
  }
  if (isTar) return 'is a tar: put it inside a `filesystem`, which it is unpacked into'
  const isWholeDisk = layout.disks.some(({ name }) => name === place)
  return image.kind === 'disk' && !isWholeDisk
    ? 'is one of a whole disk: give it a disk, or take an image of a partition'
    : undefined
}

function sizeProblem(size: Size | undefined, content: Content, image: KnownImage): string | undefined {
  if (size?.sizeBytes === undefined || image.sizeBytes <= size.sizeBytes) return undefined
  // The size of a tar is that of its files.
  const what = content.kind === 'filesystem' ? 'takes' : 'has'
  return `${what} ${image.sizeBytes} bytes, and the place has ${size.sizeBytes}: make it larger`
}

function sizeOf(layout: Layout, place: string): Size | undefined {
  const partitions = layout.disks.flatMap(({ name, partitions }) =>
    partitions.map((partition) => ({ place: `${name}:${partition.number}`, size: partition })),
  )
  const volumes = layout.groups.flatMap(({ name, volumes }) =>
    volumes.map((volume) => ({ place: `${name}/${volume.name}`, size: volume })),
  )
  return [...partitions, ...volumes].find((one) => one.place === place)?.size
}

/** Throws Failure `image-too-large` or `disk-none` when the disk cannot take what the layout wants of it. */
export function refuseDisk(wanted: LayoutDisk, disk: Candidate, images: KnownImages): void {
  const { name, content, table, partitions } = wanted
  const image = content?.kind === 'image' ? images.get(content.image) : undefined
  if (image !== undefined && image.kind !== 'tar') {
    refuseMisfit(disk, { sizeBytes: image.sizeBytes, sectorBytes: image.sectorBytes ?? sectorsOf(disk) })
  }
  if (table === undefined || table === 'keep') return
  const needed = bytesNeeded(partitions, table, { disk, images })
  if (needed <= disk.sizeBytes) return
  throw new Failure(
    'image-too-large',
    `the partitions of disk \`${name}\` take ${needed} bytes at least, ${disk.path} has ${disk.sizeBytes} bytes`,
  )
}

/** Sectors of an image that nobody knows are no reason against a disk. */
function sectorsOf(disk: Candidate): 512 | 4096 {
  return disk.sectorBytes === 4096 ? 4096 : 512
}

function bytesNeeded(
  partitions: readonly Partition[],
  table: 'gpt' | 'mbr',
  { disk, images }: { readonly disk: Candidate; readonly images: KnownImages },
): number {
  let end = tableBytes
  for (const partition of partitions) {
    const { content, sizeBytes, sizePercent, startBytes } = partition
    const name = imageOf(content)
    const image = name === undefined ? undefined : images.get(name)?.sizeBytes
    const share = sizePercent === undefined ? 0 : Math.floor((disk.sizeBytes * sizePercent) / 100)
    const begin = startBytes ?? Math.ceil(end / mib) * mib
    end = begin + (sizeBytes ?? Math.max(share, image ?? 0))
  }
  return table === 'gpt' ? end + tableBytes : end
}

/**
 * Why a machine with this firmware may not start what the layout makes. Only of tables that are new: what is inside an
 * image of a whole disk, or in a table that is kept, is not known.
 */
export function firmwareWarnings(
  layout: Layout,
  postInstall: PostInstall | undefined,
  firmware: 'bios' | 'uefi',
): string[] {
  const made = layout.disks.filter(({ table }) => table === 'gpt' || table === 'mbr')
  const isElsewhere = layout.disks.length > made.length
  if (made.length === 0 || isElsewhere) return []
  const types = made.flatMap(({ partitions }) => partitions.map(({ type }) => type.toLowerCase()))
  const hasEsp = types.some((type) => type === 'esp' || type === 'ef' || type === espGuid)
  if (firmware === 'uefi') {
    return hasEsp ? [] : ['the host has UEFI, and no partition of the setup is of type esp: it may not start']
  }
  if (made.some(({ table }) => table === 'mbr')) return []
  const hasBiosBoot = types.some((type) => type === 'bios-boot' || type === biosBootGuid)
  const installs = postInstall?.installBootLoader === true
  return installs && !hasBiosBoot
    ? ['the host has BIOS, and a boot loader in a GPT needs a partition of type bios-boot: it may not start']
    : !installs && hasEsp && !hasBiosBoot
      ? ['the host has BIOS, and the setup is made for UEFI (esp, no bios-boot): it may not start']
      : []
}

const espGuid = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b'
const biosBootGuid = '21686148-6449-6e6f-744e-656564454649'
