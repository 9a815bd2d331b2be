// Turns a disk that was read back into one that boots: its first MiB, the kernel's view of its partitions, and the
// backup GPT at the disk's real end. When any of it fails, the first MiB is zero again.
import { realpath, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { execa } from 'execa'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import { type OpenDisk, openDisk } from './disk.ts'
import { hasGpt } from './gpt.ts'
import type { Log } from './log.ts'
import type { Device } from './place.ts'
import { headBytesMax } from './plan.ts'
import { readBackFirstFrame } from './verify.ts'
import type { Buffers } from './write.ts'

const toolTimeoutMs = 60_000

export type BootBlock = {
  readonly seen: Device
  readonly disk: OpenDisk
  readonly manifest: Manifest
  readonly buffers: Buffers
  readonly log: Log
}

/** What `sgdisk --verify` said; undefined where no backup GPT had to move. */
export type BootBlockResult = { readonly bytesReadBack: number; readonly gpt: string | undefined }

/**
 * Writes the head, reads the whole first frame back, and moves the backup GPT. Closes `disk`, because the kernel reads
 * the partition table of a disk only when nobody claims it. Throws Failure `disk-error`; then, and when `signal`
 * aborts, the head is zero again.
 */
export async function writeBootBlock(work: BootBlock, signal: AbortSignal): Promise<BootBlockResult> {
  const { seen, disk, manifest, buffers } = work
  try {
    let bytesReadBack: number
    try {
      signal.throwIfAborted()
      await disk.write(buffers.head, Math.min(headBytesMax, manifest.sizeBytes), 0)
      await disk.flush()
      bytesReadBack = await readBackFirstFrame(disk, manifest, firstSlot(buffers))
    } finally {
      await disk.close()
    }
    const isMoved = hasGpt(buffers.head, seen.sectorBytes) && seen.sizeBytes > manifest.sizeBytes
    const gpt = isMoved ? await moveBackupGpt(seen, signal) : undefined
    await rereadPartitions(disk, work.log, signal)
    signal.throwIfAborted()
    return { bytesReadBack, gpt }
  } catch (error) {
    await zeroHead(seen, buffers.zeros).catch((second: unknown) => {
      work.log.failure(`cannot zero the first MiB of ${seen.path}: it may boot what is not proven`, second)
    })
    throw error
  }
}

async function moveBackupGpt(seen: Device, signal: AbortSignal): Promise<string> {
  const options = { cancelSignal: signal, timeout: toolTimeoutMs, stdin: 'ignore' } as const
  const failed = (what: string) => (cause: unknown) => {
    signal.throwIfAborted()
    throw new Failure('disk-error', `${what} of ${seen.path}`, { cause })
  }
  await execa('sgdisk', ['--move-second-header', seen.path], options).catch(failed('move the backup GPT to the end'))
  // sgdisk syncs the file; on a block device this makes it wait for the disk's own cache as well.
  const disk = await openDisk(seen.path, seen.sectorBytes)
  try {
    await disk.flush()
  } finally {
    await disk.close()
  }
  const { stdout } = await execa('sgdisk', ['--verify', seen.path], options).catch(failed('verify the GPT'))
  return stdout.replaceAll(/\s+/g, ' ').trim()
}

/** Best effort: nothing in the scout needs the partitions, and the new system reads the table itself. */
async function rereadPartitions(disk: OpenDisk, log: Log, signal: AbortSignal): Promise<void> {
  if (!disk.isBlockDevice || !(await hasPartitions(disk.path))) return
  const options = { cancelSignal: signal, timeout: toolTimeoutMs, stdin: 'ignore' } as const
  await execa('blockdev', ['--rereadpt', disk.path], options).catch((error: unknown) => {
    log.failure(`the kernel keeps its old view of the partitions of ${disk.path}`, error)
  })
}

/** A partition has no partitions of its own. */
async function hasPartitions(path: string): Promise<boolean> {
  return await stat(`/sys/class/block/${basename(await realpath(path))}/partition`).then(
    () => false,
    () => true,
  )
}

async function zeroHead(seen: Device, zeros: Buffer): Promise<void> {
  const disk = await openDisk(seen.path, seen.sectorBytes)
  try {
    await disk.write(zeros, Math.min(headBytesMax, seen.sizeBytes), 0)
    await disk.flush()
  } finally {
    await disk.close()
  }
}

function firstSlot(buffers: Buffers): Buffer {
  const [slot] = buffers.raw
  if (slot === undefined) throw new Error('no lane has a buffer')
  return slot
}
