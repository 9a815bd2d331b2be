// A view of a disk that can be written while the disk stays as it is: device-mapper's snapshot target (dm-snapshot), with
// what is written kept in memory. Only the scout needs it, for repairs in the image.
import { mkdtemp, rmdir, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { mount, openLoop, unmount } from '../lib/block-devices.ts'
import { Failure } from '../model/failure.ts'

export type CopyOnWrite = {
  /** The view as a block device. */
  readonly path: string
  /** Throws Failure `internal` when the view is broken: more was written than there was memory for, or the disk failed. */
  readonly check: () => Promise<void>
  /** Takes the view away with all that was written to it. */
  readonly close: () => Promise<void>
}

/** What repairs write: a few files, and the journal of a file system that was not unmounted. */
const memoryBytesMax = 1024 * 1024 * 1024
/** The rest is for the system, and for the frames on their way. */
const memoryPart = 4

/** In units of 512 bytes: what is copied at the first write to any of it. */
const chunkSectors = 8

/** Opens the view. Throws Failure `internal` when this kernel cannot, or the disk is in use. */
export async function openCopyOnWrite(
  disk: { readonly path: string; readonly sizeBytes: number },
  memoryBytes: number,
): Promise<CopyOnWrite> {
  const undo: (() => Promise<unknown>)[] = []
  const close = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  const name = `hades-capture-${process.pid}`
  try {
    const folder = await mkdtemp(join(tmpdir(), 'hades-writes-'))
    undo.push(() => rmdir(folder))
    const sizeBytes = Math.min(memoryBytesMax, Math.floor(memoryBytes / memoryPart))
    await mount(['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'hades-writes'], folder)
    undo.push(() => unmount(folder))
    const store = join(folder, 'writes')
    await writeFile(store, '')
    await truncate(store, sizeBytes)
    const loop = await openLoop(store)
    undo.push(loop.detach)
    await run('modprobe', ['dm-snapshot'])
    const table = `0 ${Math.floor(disk.sizeBytes / 512)} snapshot ${disk.path} ${loop.device} N ${chunkSectors}`
    await run('dmsetup', ['create', name, '--noudevsync', '--table', table])
    undo.push(() => run('dmsetup', ['remove', '--noudevsync', '--retry', name]))
    const device = await run('dmsetup', ['info', '--columns', '--noheadings', '--options', 'blkdevname', name])
    const path = `/dev/${device}`
    const check = async (): Promise<void> => {
      const status = await run('dmsetup', ['status', name])
      if (!/Invalid|Overflow/.test(status)) return
      const room = `the repair wrote more than the ${sizeBytes} bytes of memory that it may have`
      // The kernel tells the one as the other.
      throw new Failure('internal', `the view of ${disk.path} broke: ${room}, or the disk cannot be read`)
    }
    return { path, check, close }
  } catch (cause) {
    await close().catch(() => {})
    throw new Failure('internal', `no copy-on-write view of ${disk.path} can be made`, { cause })
  }
}

async function run(command: string, args: readonly string[]): Promise<string> {
  // No udev in the scout: dmsetup must neither wait for it nor leave the nodes to it.
  const env = { DM_DISABLE_UDEV: '1' }
  const { stdout } = await execa(command, [...args], { timeout: 60_000, stdin: 'ignore', env })
  return stdout.trim()
}
