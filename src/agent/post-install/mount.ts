// Mounts for the work after the images. Whoever mounts unmounts, in the opposite order, whatever happened between: a disk is
// whole only when its file systems were let go.
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { Failure } from '../../model/failure.ts'
import { run } from './command.ts'

const unmountTimeoutMs = 300_000
/** A process that was killed may hold a file for a moment longer. */
const unmountTries = 20
const unmountPauseMs = 250

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

export async function mount(order: MountOrder, signal: AbortSignal): Promise<void> {
  const { device, filesystem, at, isReadOnly = false, more } = order
  const own = (isReadOnly ? readOnlyOptions : options)[filesystem]
  // Device files of a foreign image are nobody's to open.
  const all = [isReadOnly ? 'ro' : 'rw', 'nodev', own, more].filter((option) => option !== undefined)
  const command = ['mount', '-t', filesystem, '-o', all.join(','), device, at]
  await run(`mount ${device} (${filesystem})`, command, signal)
}

/** Throws Failure `disk-error` when it stays in use: what was written may not be on the disk. */
export async function unmount(at: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    // Not ended by anybody's signal: it brings what was written to the disk.
    const result = await execa('umount', [at], { timeout: unmountTimeoutMs, stdin: 'ignore', reject: false })
    if (!result.failed) return
    if (tries === unmountTries || !result.stderr.includes('busy')) {
      throw new Failure('disk-error', `${at} cannot be unmounted`, { cause: new Error(result.stderr.trim()) })
    }
    await delay(unmountPauseMs)
  }
}
