// What lies in the places of a layout once the images are on the disks: the partitions that an image brought, and the file
// system in each. Asks blkid and sysfs; mounts nothing.
import { readdir, readFile, realpath } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Place } from '../place.ts'
import { run } from './command.ts'

/** A block device of the host that may hold a file system. */
export type SeenFileSystem = {
  readonly path: string
  /** The place of the layout that it lies in. */
  readonly place: Place
  /** Of an image of a whole disk: its number in the image's own partition table. */
  readonly partition?: number | undefined
  /** As blkid names it; undefined when nothing is known to be there. */
  readonly filesystem?: string | undefined
  readonly uuid?: string | undefined
  readonly label?: string | undefined
  readonly partUuid?: string | undefined
  readonly partLabel?: string | undefined
  readonly partType?: string | undefined
}

/** Partitions of one disk, at most. */
const partitionsMax = 128

/** Everything in the places that could hold a file system, in the order of the layout. */
export async function seeFileSystems(
  places: readonly Place[],
  signal: AbortSignal,
): Promise<readonly SeenFileSystem[]> {
  const seen: SeenFileSystem[] = []
  for (const place of places) {
    if (place.content.kind === 'empty' || place.content.kind === 'member') continue
    const partitions = isWholeDisk(place) ? await partitionsOf(place.device.path, signal) : []
    for (const { path, partition } of partitions) {
      seen.push({ path, place, partition, ...(await identify(path, signal)) })
    }
    if (partitions.length === 0) {
      seen.push({ path: place.device.path, place, ...(await identify(place.device.path, signal)) })
    }
  }
  return seen
}

/** A place that is a disk, all of it, and holds an image: its table, if it has one, is the image's. */
export function isWholeDisk({ content, disk, partition }: Place): boolean {
  return content.kind === 'image' && disk !== undefined && partition === undefined
}

export type PartitionDevice = {
  readonly path: string
  readonly partition: number
  /** In sectors of 512 bytes, whatever the disk's are. */
  readonly start: number
}

/** The partitions of a disk by their numbers, after the kernel was told to look at its table again. */
export async function partitionsOf(disk: string, signal: AbortSignal): Promise<readonly PartitionDevice[]> {
  await updatePartitions(disk, signal)
  const name = basename(await realpath(disk))
  const folder = join('/sys/class/block', name)
  const found: PartitionDevice[] = []
  for (const child of await readdir(folder)) {
    if (!child.startsWith(name)) continue
    const read = async (name: string) =>
      Number(await readFile(join(folder, child, name), 'latin1').catch(() => Number.NaN))
    const [partition, start] = [await read('partition'), await read('start')]
    if (Number.isInteger(partition)) found.push({ path: `/dev/${child}`, partition, start })
  }
  return found.sort((a, b) => a.partition - b.partition).slice(0, partitionsMax)
}

/** Has the kernel take over the table of a disk, as far as its partitions are not in use. */
export async function updatePartitions(disk: string, signal: AbortSignal): Promise<void> {
  // Without a range partx looks at as many numbers as there are partitions: cloud images have 1, 14 and 15. A disk without
  // a table is no failure: exit code 1.
  const command = ['partx', '--update', '--nr', `1:${partitionsMax}`, disk]
  await run(`look at the partitions of ${disk}`, command, signal, { fine: [1] })
}

type Identity = Pick<SeenFileSystem, 'filesystem' | 'uuid' | 'label' | 'partUuid' | 'partLabel' | 'partType'>

/** What blkid reads from the device itself, without its cache. */
export async function identify(device: string, signal: AbortSignal): Promise<Identity> {
  // Exit code 2: nothing is known there; 8: several things, which blkid does not choose from.
  const command = ['blkid', '--probe', '--output', 'export', device]
  return parseIdentity(await run(`look at what is on ${device}`, command, signal, { fine: [2, 8] }))
}

/** Reads `blkid --output export`, which escapes what a shell would read by backslashes. */
export function parseIdentity(text: string): Identity {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const at = line.indexOf('=')
    if (at > 0)
      values.set(
        line.slice(0, at),
        line
          .slice(at + 1)
          .replaceAll(/\\(.)/g, '$1')
          .slice(0, 190),
      )
  }
  const fields = {
    filesystem: values.get('TYPE'),
    uuid: values.get('UUID'),
    label: values.get('LABEL'),
    partUuid: values.get('PART_ENTRY_UUID'),
    partLabel: values.get('PART_ENTRY_NAME'),
    partType: values.get('PART_ENTRY_TYPE'),
  }
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

/** As people read it in a record: `/dev/vda3 (system, partition 3: ext4)`. */
export function nameOf({ path, place, partition, filesystem }: SeenFileSystem): string {
  const where = partition === undefined ? place.name : `${place.name}, partition ${partition}`
  return `${path} (${where}: ${filesystem ?? 'nothing known'})`
}
