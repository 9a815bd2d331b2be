// Mounts for the work after the images. Whoever mounts unmounts, in the opposite order, whatever happened between: a disk is
// whole only when its file systems were let go.
import { bringIn } from '../mounts.ts'

/** Mount options, so that looking at a file system changes nothing on its disk, its journal included. */
const readOnlyOptions: Partial<Record<string, string>> = { ext3: 'noload', ext4: 'noload', xfs: 'norecovery,nouuid' }
/** Two disks with the same image have the same XFS. */
const options: Partial<Record<string, string>> = { xfs: 'nouuid' }

/** File systems that the scout mounts. */
export const linuxFileSystems = ['ext2', 'ext3', 'ext4', 'xfs', 'btrfs']

export type MountOrder = {
  readonly device: string
  readonly filesystem: string
  /** Without links on the way. */
  readonly at: string
  readonly isReadOnly?: boolean
  /** Such as `subvol=@`. */
  readonly more?: string | undefined
}

/** Throws Failure `post-install-failed`, or the reason of `signal`; then nothing is mounted there. */
export async function mount(order: MountOrder, signal: AbortSignal): Promise<void> {
  const { device, filesystem, at, isReadOnly = false, more } = order
  const own = (isReadOnly ? readOnlyOptions : options)[filesystem]
  // Device files of a foreign image are nobody's to open.
  const all = [isReadOnly ? 'ro' : 'rw', 'nodev', own, more].filter((option) => option !== undefined)
  const how = ['-t', filesystem, '-o', all.join(','), device]
  await bringIn(`mount ${device} (${filesystem})`, { how, at, code: 'post-install-failed' }, signal)
}
