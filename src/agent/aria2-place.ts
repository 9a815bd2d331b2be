// Where aria2 puts image.zst: in memory when the budget has room for all of it, else in the unused part of the target disk,
// which it then reads and writes as a block device. Needs root, as the agent has in the scout.
import { mkdtemp, rmdir, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, openLoop, unmount } from '../lib/block-devices.ts'
import type { Manifest } from '../model/image.ts'
import type { Log } from './log.ts'
import type { SpillPlace } from './spill-disk.ts'

/** aria2's configuration and its notes beside the image. */
const ownBytes = 1024 * 1024

export type Aria2Place = { readonly folder: string; readonly close: () => Promise<void> }

/** Makes a folder for aria2, taken away by `close`. Throws an Error when there is no room for the image. */
export async function makeAria2Place(work: {
  readonly manifest: Manifest
  readonly spillTo: SpillPlace | undefined
  readonly budgetBytes: number
  readonly log: Log
}): Promise<Aria2Place> {
  const { manifest, spillTo, budgetBytes, log } = work
  const { storedBytes } = manifest
  if (storedBytes <= budgetBytes) return await mountFolder(storedBytes + ownBytes)
  if (spillTo === undefined || spillTo.range.length < storedBytes) {
    throw new Error(
      `there is no room for ${storedBytes} bytes beside the image: ${budgetBytes} bytes of memory and ` +
        `${spillTo?.range.length ?? 0} unused bytes on a disk`,
    )
  }
  const { disk, range } = spillTo
  const place = await mountFolder(ownBytes)
  try {
    const part = ['--offset', String(range.offset), '--sizelimit', String(range.length)]
    const { device, detach } = await openLoop(disk.path, part)
    const close = async () => {
      await detach()
      await place.close()
    }
    log.line(`aria2 keeps the image at ${device}, ${range.length} bytes of ${disk.path} from ${range.offset}`)
    try {
      await symlink(device, join(place.folder, 'image.zst'))
    } catch (error) {
      await close()
      throw error
    }
    return { folder: place.folder, close }
  } catch (error) {
    await place.close()
    throw error
  }
}

/** A file system in memory that cannot grow beyond `sizeBytes`. */
async function mountFolder(sizeBytes: number): Promise<Aria2Place> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-aria2-'))
  try {
    await mount(['-t', 'tmpfs', '-o', `size=${sizeBytes},mode=0700`, 'hades-aria2'], folder)
  } catch (error) {
    await rmdir(folder)
    throw error
  }
  let isClosed = false
  const close = async () => {
    if (isClosed) return
    isClosed = true
    await unmount(folder)
    await rmdir(folder)
  }
  return { folder, close }
}
