// From the layout to devices: chooses each disk, checks everything that can be checked, and only then wipes and writes
// tables, arrays and volume groups. Nothing is written when it throws before step `layout`. File systems are made while
// the images come (`Prepared.fileSystems`).
import { readFile, realpath } from 'node:fs/promises'
import { basename } from 'node:path'
import { type ApprovedDisk, checkIdentity } from '../model/approved-disk.ts'
import { chooseDisks, describe } from '../model/choose-disk.ts'
import { Failure } from '../model/failure.ts'
import { kindOf, type Manifest } from '../model/image.ts'
import { type Content, type Layout, type LayoutDisk, placesOf, type RedeployMode } from '../model/layout.ts'
import { type DiskTable, type LayoutPlan, type PlanImage, type PlannedDisk, planLayout } from '../model/layout-plan.ts'
import { makeArray, makeGroup, readGroups, stopHolder } from './composed-devices.ts'
import { type DeviceTree, type FixedName, findTwin, holdersOf, readDeviceTrees } from './device-tree.ts'
import { openDisk } from './disk.ts'
import { eraseDisk } from './erase.ts'
import { FileSystems } from './file-systems.ts'
import type { EfiSystemPartition } from './gpt.ts'
import type { Look, SeenDisk } from './inventory.ts'
import { findPartitions, pathOfPartition, readTable, writeTable } from './partition-table.ts'
import type { Device, Place } from './place.ts'
import type { Range } from './plan.ts'
import { wipeRanges, wipeSignatures } from './wipe-range.ts'
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
  /** Unless `full`, what lies where a whole-disk image goes is left for it to be compared with. */
  readonly redeploy: RedeployMode
  /** How an erase shows: `begin` when each begins, with the size of its disk. */
  readonly onErase: ErasingReport
  /** A line for the timeline. */
  readonly tell: (kind: string, text: string) => Promise<unknown>
  /** Everything was checked: from here on disks are written. */
  readonly onLayout: () => void
}

export type ErasingReport = {
  readonly begin: (sizeBytes: number) => void
  readonly progress: (doneBytes: number) => void
  /** `disk` as the setup names it. */
  readonly erased: (disk: string, erasure: { readonly text: string; readonly seconds: number }) => void
}

export type Prepared = {
  /** In the order of the document. */
  readonly places: readonly Place[]
  /** Those of the setup being made; its UUIDs are known when they are. */
  readonly fileSystems: FileSystems
  /** For each disk of the setup, by its name, what lies in no partition of it. */
  readonly unused: ReadonlyMap<string, readonly Range[]>
  /** The first on a disk whose partitions the setup names; it may be one that is kept. */
  readonly esp: EspOfDisk | undefined
  /** The disks of this machine that the setup does not touch. */
  readonly otherDisks: readonly DeviceTree[]
}

/** `path` is the partition's own device. */
export type EspOfDisk = { readonly disk: SeenDisk; readonly esp: EfiSystemPartition; readonly path: string }

/**
 * Every place of the layout, as a device. Throws Failures `disk-none`, `disk-ambiguous`, `disk-changed`, `image-too-large`,
 * `bad-input` and `disk-error`.
 */
export async function prepare(work: Preparation, signal: AbortSignal): Promise<Prepared> {
  const checked = await check(work, signal)
  const { plan, chosen } = checked
  for (const { disk } of plan.disks) {
    const seen = diskOf(chosen, disk.name)
    const what =
      disk.content?.kind === 'keep' ? 'keeping it' : `for ${contentInWords(disk, isCompared(disk, work.redeploy))}`
    await work.tell('disk-chosen', `${describe(seen)} ${what}`)
  }
  signal.throwIfAborted()
  if (plan.disks.some(({ disk }) => disk.table !== undefined)) work.onLayout()
  const written = await write(work, checked, signal)
  const holds = new Map(
    plan.disks.map(({ disk }) => {
      const old = isCompared(disk, work.redeploy) ? ('old' as const) : undefined
      return [disk.name, disk.erase === 'none' ? old : ('nothing' as const)]
    }),
  )
  const places = placesOf(work.layout).map(({ place, content }) =>
    toPlace(place, content, { ...written, chosen, holds }),
  )
  const unused = new Map(plan.disks.map(({ disk, unused }) => [disk.name, unused]))
  const { otherDisks } = checked
  return { places, fileSystems: new FileSystems(places, signal), unused, esp: written.esp, otherDisks }
}

type Checked = {
  readonly chosen: ReadonlyMap<string, SeenDisk>
  readonly tables: ReadonlyMap<string, DiskTable | undefined>
  readonly plan: LayoutPlan
  /** Arrays and volumes on disks that will be written, in the order to stop them. */
  readonly holders: readonly DeviceTree[]
  readonly otherDisks: readonly DeviceTree[]
}

/** Everything that can be known without writing. */
async function check({ look, layout, approved, manifests }: Preparation, signal: AbortSignal): Promise<Checked> {
  const chosen = chooseDisks(look.disks, layout.disks)
  for (const [name, disk] of chosen) checkIdentity(name, disk, approved ?? [])
  const tables = new Map<string, DiskTable | undefined>()
  for (const disk of layout.disks) {
    const seen = diskOf(chosen, disk.name)
    if (disk.table === 'keep') tables.set(disk.name, await readTable(seen, signal))
  }
  const disks = new Map([...chosen].map(([name, seen]) => [name, { ...seen, table: tables.get(name) }]))
  const plan = planLayout(layout, disks, imagesOf(layout, manifests))
  const paths = look.disks.map(({ path }) => path)
  const trees = new Map((await readDeviceTrees(paths, signal)).map((tree) => [tree.path, tree]))
  const written = plan.disks.filter(({ disk }) => disk.content?.kind !== 'keep')
  const holders = written.flatMap(({ disk }) => {
    const tree = trees.get(diskOf(chosen, disk.name).path)
    return tree === undefined ? [] : holdersOf(tree)
  })
  const chosenPaths = new Set([...chosen.values()].map(({ path }) => path))
  const otherDisks = [...trees.values()].filter(({ path }) => !chosenPaths.has(path))
  const kept = plan.disks.flatMap((planned) => keptOf(planned, trees.get(diskOf(chosen, planned.disk.name).path)))
  refuseTwin(fixedNames(layout), [...otherDisks, ...kept])
  if (layout.groups.length > 0) await refuseTakenGroup(layout, [...chosenPaths], signal)
  for (const { disk } of written) await checkWritable(diskOf(chosen, disk.name), holders.length > 0)
  return { chosen, tables, plan, holders: unique(holders), otherDisks }
}

function diskOf(chosen: ReadonlyMap<string, SeenDisk>, name: string): SeenDisk {
  const disk = chosen.get(name)
  if (disk === undefined) throw new Error(`no disk was chosen for \`${name}\``)
  return disk
}

function unique(holders: readonly DeviceTree[]): readonly DeviceTree[] {
  return [...new Map(holders.map((holder) => [holder.path, holder])).values()]
}

function imagesOf(layout: Layout, manifests: ReadonlyMap<string, Manifest>): ReadonlyMap<string, PlanImage> {
  const images = new Map<string, PlanImage>()
  for (const { content } of placesOf(layout)) {
    const name = 'image' in content ? content.image : undefined
    const manifest = name === undefined ? undefined : manifests.get(name)
    if (name === undefined || manifest === undefined) continue
    const { sizeBytes, sectorBytes } = manifest
    images.set(name, { sizeBytes, sectorBytes, kind: kindOf(manifest) })
  }
  return images
}

/** What of a chosen disk stays as it is. */
function keptOf({ disk, partitions }: PlannedDisk, tree: DeviceTree | undefined): readonly DeviceTree[] {
  if (tree === undefined) return []
  if (disk.content?.kind === 'keep') return [tree]
  if (disk.table !== 'keep') return []
  const overwritten = partitions.filter(({ partition }) => partition.content.kind !== 'keep')
  const numbers = new Set(overwritten.map(({ partition }) => partition.number))
  return tree.children.filter(({ path }) => !numbers.has(Number(/(\d+)$/.exec(path)?.[1])))
}

function fixedNames(layout: Layout): FixedName[] {
  const fixed: FixedName[] = []
  for (const { place, content } of placesOf(layout)) {
    if (content.kind !== 'filesystem' && content.kind !== 'swap') continue
    if (content.uuid !== undefined) fixed.push({ place, kind: 'uuid', name: content.uuid })
    if (content.label !== undefined) fixed.push({ place, kind: 'label', name: content.label })
  }
  for (const { name, table, partitions } of layout.disks) {
    for (const { number, uuid } of table === 'keep' ? [] : partitions) {
      if (uuid !== undefined) fixed.push({ place: `${name}:${number}`, kind: 'partitionUuid', name: uuid })
    }
  }
  return fixed
}

const nameWords = { uuid: 'UUID', label: 'label', partitionUuid: 'partition UUID' } as const

/** A system that looks for its disks by name must find one. */
function refuseTwin(names: readonly FixedName[], trees: readonly DeviceTree[]): void {
  const twin = findTwin(names, trees)
  if (twin === undefined) return
  const { place, kind, name } = twin.fixed
  const words = `the setup gives \`${place}\` the ${nameWords[kind]} ${name}, and ${twin.path}, which stays, has the same`
  throw new Failure('disk-ambiguous', `${words}: the new system could take one for the other`, { at: place })
}

async function refuseTakenGroup(layout: Layout, chosen: readonly string[], signal: AbortSignal): Promise<void> {
  const groups = await readGroups(signal)
  for (const { name } of layout.groups) {
    const outside = groups.get(name)?.find((path) => !chosen.some((disk) => path.startsWith(disk)))
    // What lies on an array of the chosen disks goes with the array.
    if (outside === undefined || outside.startsWith('/dev/md')) continue
    const words = `the setup makes the volume group \`${name}\`, and one of that name is on ${outside}, which stays`
    throw new Failure('disk-ambiguous', words, { at: name })
  }
}

/** A disk that takes no writes is refused, and so is one that is taken: it is opened as the work will, and let go. */
async function checkWritable(seen: SeenDisk, isHeld: boolean): Promise<void> {
  const name = basename(await realpath(seen.path))
  // A regular file that stands for a disk is not in sysfs.
  const flag = await readFile(`/sys/class/block/${name}/ro`, 'utf8').catch(() => '0')
  if (flag.trim() === '1')
    throw new Failure('disk-none', `${describe(seen)} takes no writes: the kernel has it read-only`)
  const disk = await openDisk(seen.path, seen.sectorBytes, { claim: !isHeld })
  await disk.close()
}

/** Whether what the disk holds stays until the image that it gets was compared with it. */
function isCompared({ content, erase }: LayoutDisk, redeploy: RedeployMode): boolean {
  return redeploy !== 'full' && erase === 'none' && content?.kind === 'image'
}

function contentInWords({ content, partitions, table }: LayoutDisk, isCompared: boolean): string {
  if (content?.kind === 'image') return `${content.image}: ${isCompared ? 'looking what it holds' : 'wiping it'}`
  if (table === undefined) return `${content?.kind}: wiping it`
  return `${table === 'keep' ? 'its own table' : `a new ${table} table`} with ${partitions.length} partitions of the setup`
}

type Devices = Map<string, Device>

type Written = {
  /** Of every place. */
  readonly devices: Devices
  /** By the names of their places. */
  readonly partitionUuids: ReadonlyMap<string, string>
  readonly esp: EspOfDisk | undefined
}

const espType = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b'

/** Wipes and writes, disk by disk, then arrays and groups. */
async function write(work: Preparation, checked: Checked, signal: AbortSignal): Promise<Written> {
  const { plan, chosen, holders } = checked
  const devices: Devices = new Map()
  const partitionUuids = new Map<string, string>()
  let esp: EspOfDisk | undefined
  for (const holder of holders) {
    await stopHolder(holder, signal)
    await work.tell('stopped', `${holder.path} (${holder.type}), which held a disk of the setup`)
  }
  for (const planned of plan.disks) {
    const { name } = planned.disk
    const seen = diskOf(chosen, name)
    await erase(work, planned.disk, seen, signal)
    if (planned.table === undefined) {
      devices.set(name, seen)
      const stays = planned.disk.content?.kind === 'keep' || isCompared(planned.disk, work.redeploy)
      if (!stays) await wipe(seen, work.zeros, signal)
      continue
    }
    for (const [number, device] of await writePartitions(work, { planned, seen }, signal)) {
      devices.set(`${name}:${number}`, device)
    }
    const table = await readTable(seen, signal)
    for (const { number, type, uuid } of table?.partitions ?? []) {
      if (uuid === undefined) continue
      partitionUuids.set(`${name}:${number}`, uuid)
      const path = type === espType && esp === undefined ? await pathOfPartition(seen.path, number) : undefined
      if (path !== undefined) esp = { disk: seen, esp: { number, uuid }, path }
    }
  }
  for (const array of plan.arrays) {
    const device = await makeArray(array, membersIn(devices, array.members), signal)
    await wipeWhole(device, work.zeros, signal)
    devices.set(array.name, device)
  }
  for (const group of plan.groups) {
    const made = await makeGroup(group, membersIn(devices, group.members), signal)
    for (const [place, device] of made) devices.set(place, device)
  }
  return { devices, partitionUuids, esp }
}

/** Erases a disk of the setup that is to be erased, whatever comes onto it. */
async function erase(
  { zeros, tell, onErase }: Preparation,
  { name, erase: method }: LayoutDisk,
  seen: SeenDisk,
  signal: AbortSignal,
): Promise<void> {
  if (method === 'none') return
  onErase.begin(seen.sizeBytes)
  const erasing = { disk: seen, method, zeros, tell, onProgress: onErase.progress }
  onErase.erased(name, await eraseDisk(erasing, signal))
}

function membersIn(devices: Devices, names: readonly string[]): readonly Device[] {
  return names.map((name) => {
    const device = devices.get(name)
    if (device === undefined) throw new Error(`member \`${name}\` is no device yet`)
    return device
  })
}

/** Writes the table of one disk; what is kept is neither wiped nor moved. Gives the partitions by number. */
async function writePartitions(
  { zeros, tell }: Preparation,
  { planned, seen }: { readonly planned: PlannedDisk; readonly seen: SeenDisk },
  signal: AbortSignal,
): Promise<ReadonlyMap<number, Device>> {
  const overwritten = planned.partitions.filter(({ partition }) => partition.content.kind !== 'keep')
  if (planned.disk.table !== 'keep') {
    // Where old partitions began and ended their signatures lie too, and a partition may get the same place again.
    const old = await readTable(seen, signal).catch(() => undefined)
    const ranges = (old?.partitions ?? []).filter(({ offset, length }) => offset + length <= seen.sizeBytes)
    await wipeDisk(seen, ranges, zeros, signal)
    await wipe(seen, zeros, signal)
  }
  await wipeDisk(seen, overwritten, zeros, signal)
  await writeTable(seen, planned, signal)
  const devices = await findPartitions(seen, planned.partitions, signal)
  for (const { partition } of overwritten) {
    const device = devices.get(partition.number)
    if (device !== undefined) await wipeSignatures(device.path, signal)
  }
  const rows = planned.partitions.map(({ partition: { number }, offset, length, isNew }) => {
    return `${number} at ${offset} of ${length}${isNew ? '' : ' as it was'}`
  })
  await tell('partitions', `${seen.path}, ${planned.table}: ${rows.join(', ')}`)
  return devices
}

async function wipeDisk(seen: Device, ranges: readonly Range[], zeros: Buffer, signal: AbortSignal): Promise<void> {
  const disk = await openDisk(seen.path, seen.sectorBytes)
  try {
    await wipeRanges(disk, ranges, zeros, signal)
  } finally {
    await disk.close()
  }
}

/** Of an array only what lies at its ends is old: its members were wiped. */
async function wipeWhole(device: Device, zeros: Buffer, signal: AbortSignal): Promise<void> {
  await wipeDisk(device, [{ offset: 0, length: device.sizeBytes }], zeros, signal)
}

type Known = Written & {
  readonly chosen: ReadonlyMap<string, SeenDisk>
  /** By the names of disks. */
  readonly holds: ReadonlyMap<string, Place['holds']>
}

function toPlace(name: string, content: Content, { devices, partitionUuids, chosen, holds }: Known): Place {
  const device = devices.get(name)
  if (device === undefined) throw new Error(`place \`${name}\` has no device`)
  const [diskName = '', number] = name.split(':')
  const disk = chosen.get(diskName)
  if (disk === undefined) return { name, content, device }
  const held = holds.get(diskName)
  if (number === undefined) return { name, content, device, disk, holds: held }
  const partition = Number(number)
  const partitionUuid = partitionUuids.get(name)
  const common = { name, content, device, disk, partition, holds: held === 'nothing' ? held : undefined }
  return { ...common, ...(partitionUuid === undefined ? {} : { partitionUuid }) }
}
