// Arrays (mdadm) and volume groups (lvm2): making those of a setup, and stopping those that an earlier system or an earlier
// start of the agent left on a disk that is to be written. The scout assembles nothing by itself and runs no udev.
import { stat } from 'node:fs/promises'
import { Failure } from '../model/failure.ts'
import {
  arrayChunkBytes,
  arrayDataOffsetBytes,
  type PlannedArray,
  type PlannedGroup,
  volumeDataOffsetBytes,
} from '../model/layout-plan.ts'
import { type DeviceTree, isArray } from './device-tree.ts'
import type { Device } from './place.ts'
import { runTool } from './tool.ts'

const arraysMax = 128

/** lvm makes the device nodes itself, asks the disks and not udev, and lays data where the plan has it. */
const lvmConfig = [
  'activation/udev_sync=0 activation/udev_rules=0 activation/verify_udev_operations=0',
  'devices/obtain_device_list_from_udev=0 devices/external_device_info_source="none" devices/use_devicesfile=0',
  'devices/data_alignment_detection=0 devices/data_alignment_offset_detection=0 devices/md_chunk_alignment=0',
].join(' ')

/** Stops an array or deactivates a volume. Nothing of it is changed on its disks. */
export async function stopHolder({ path, type }: DeviceTree, signal: AbortSignal): Promise<void> {
  const command = isArray(type) ? ['mdadm', '--stop', path] : ['dmsetup', 'remove', '--retry', path]
  await runTool(`stop ${path}, which holds a disk of this setup`, command, { signal })
}

/** The command that makes an array at `path`. */
export function arrayCommand(array: PlannedArray, path: string, members: readonly string[]): string[] {
  const { name, level, metadata, bytesPerMember } = array
  return [
    'mdadm',
    '--create',
    path,
    '--run',
    '--force',
    `--level=${level}`,
    `--raid-devices=${members.length}`,
    `--metadata=${metadata}`,
    `--name=${name}`,
    // Any host may start it: the one that is being made has no name yet.
    '--homehost=any',
    ...(level === '1' ? [] : [`--chunk=${arrayChunkBytes / 1024}K`]),
    ...(metadata === '1.2' ? [`--data-offset=${arrayDataOffsetBytes / 1024}K`] : []),
    ...(bytesPerMember === undefined ? [] : [`--size=${bytesPerMember / 1024}K`]),
    // Whatever will be read was written before, to all copies: nothing is gained by copying what nobody wrote.
    ...(level === '0' ? [] : ['--assume-clean']),
    ...members,
  ]
}

/** Makes an array. Throws Failure `disk-error`, also when it is smaller than planned. */
export async function makeArray(array: PlannedArray, members: readonly Device[], signal: AbortSignal): Promise<Device> {
  await loadModule(`raid${array.level}`, signal)
  const path = await freeArrayPath()
  const command = arrayCommand(
    array,
    path,
    members.map((member) => member.path),
  )
  await runTool(`make the array \`${array.name}\` of level ${array.level}`, command, { signal })
  const sizeBytes = await sizeOf(path, signal)
  if (sizeBytes < array.sizeBytes) {
    const words = `the array \`${array.name}\` has ${sizeBytes} bytes, planned were ${array.sizeBytes}`
    throw new Failure('disk-error', words)
  }
  return { path, sizeBytes, sectorBytes: Math.max(...members.map((member) => member.sectorBytes)) }
}

async function freeArrayPath(): Promise<string> {
  for (let number = 0; number < arraysMax; number++) {
    const isTaken = await stat(`/sys/class/block/md${number}`).then(
      () => true,
      () => false,
    )
    if (!isTaken) return `/dev/md${number}`
  }
  throw new Failure('disk-error', `this machine has ${arraysMax} arrays already`)
}

/** Neither mdadm nor lvm finds its kernel's part when that was never used. */
async function loadModule(name: string, signal: AbortSignal): Promise<void> {
  await runTool(`load the kernel's ${name}`, ['modprobe', name], { signal })
}

async function sizeOf(path: string, signal: AbortSignal): Promise<number> {
  const { stdout } = await runTool(`measure ${path}`, ['blockdev', '--getsize64', path], { signal })
  return Number(stdout)
}

/** The volume groups of this machine, each with its physical volumes. */
export async function readGroups(signal: AbortSignal): Promise<ReadonlyMap<string, readonly string[]>> {
  await loadModule('dm-mod', signal)
  const columns = ['--noheadings', '--separator', ' ', '-o', 'vg_name,pv_name']
  const command = ['lvm', 'pvs', '--config', lvmConfig, ...columns]
  const { stdout } = await runTool('list the volume groups that are there', command, { signal })
  const groups = new Map<string, string[]>()
  for (const line of stdout.split('\n')) {
    const [group, path] = line.trim().split(/\s+/)
    if (group && path) groups.set(group, [...(groups.get(group) ?? []), path])
  }
  return groups
}

/** Makes a group with its volumes; gives these by their names. Throws Failure `disk-error`. */
export async function makeGroup(
  group: PlannedGroup,
  members: readonly Device[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Device>> {
  const { name, volumes } = group
  const lvm = (verb: string, ...args: string[]) => ['lvm', verb, '--config', lvmConfig, '--yes', ...args]
  const paths = members.map(({ path }) => path)
  const alignment = ['--dataalignment', `${volumeDataOffsetBytes / 1024}k`]
  await runTool(`make the volume group \`${name}\``, lvm('vgcreate', ...alignment, name, ...paths), { signal })
  const sectorBytes = Math.max(...members.map((member) => member.sectorBytes))
  const made = new Map<string, Device>()
  for (const volume of volumes) {
    const size = ['--extents', String(volume.extents), '--wipesignatures', 'y', '--zero', 'y']
    const command = lvm('lvcreate', '--name', volume.name, ...size, name)
    await runTool(`make the volume \`${name}/${volume.name}\``, command, { signal })
    const path = `/dev/${name}/${volume.name}`
    made.set(`${name}/${volume.name}`, { path, sizeBytes: await sizeOf(path, signal), sectorBytes })
  }
  return made
}
