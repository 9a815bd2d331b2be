// A block device for tests that fails where it is told to, or is gone at once: qemu serves a file with those errors (blkdebug) as
// another file (FUSE), and a loop device lies over that.
import { stat, writeFile } from 'node:fs/promises'
import { execa } from 'execa'
import { openLoop } from './block-devices.ts'
import { until } from './until.ts'

/** One sector that always fails. */
export type Fault = { readonly on: 'read' | 'write' | 'write-zeroes'; readonly offset: number }

export type FailingDisk = {
  readonly device: string
  /** Whatever is asked of it fails, once this has resolved. */
  readonly vanish: () => Promise<void>
  readonly detach: () => Promise<void>
}

/** A disk of what is in `file`, which it changes. */
export async function attachFailing(file: string, faults: readonly Fault[]): Promise<FailingDisk> {
  const place = `${file}.served`
  await writeFile(place, '')
  const errors = faults.map(({ on, offset }) => ({
    event: 'none',
    iotype: on,
    sector: Math.floor(offset / 512),
    errno: 5,
    once: false,
  }))
  const image = { driver: 'file', filename: file }
  // An empty list is refused.
  const injected = errors.length === 0 ? {} : { 'inject-error': errors }
  const node = { driver: 'blkdebug', 'node-name': 'failing', image, ...injected }
  const served = `fuse,id=failing,node-name=failing,mountpoint=${place},writable=on`
  const daemon = execa('qemu-storage-daemon', ['--blockdev', JSON.stringify(node), '--export', served], {
    reject: false,
  })
  const end = async () => {
    daemon.kill()
    await daemon
    // Who was killed leaves it mounted.
    await execa('umount', ['--lazy', place], { reject: false })
  }
  try {
    const { size } = await stat(file)
    const ended = daemon.then(({ stderr }): never => {
      throw new Error(`qemu-storage-daemon ended: ${stderr}`)
    })
    await Promise.race([
      until('the disk to be there', async () => (await stat(place)).size === size, { timeoutMs: 10_000 }),
      ended,
    ])
    // Else what was read before could be read again from memory, when the disk is gone.
    const { device, detach: detachLoop } = await openLoop(place, ['--direct-io=on'])
    await execa('blockdev', ['--setrw', device])
    const detach = async () => {
      await detachLoop()
      await end()
    }
    const vanish = async () => {
      daemon.kill('SIGKILL')
      await daemon
    }
    return { device, vanish, detach }
  } catch (error) {
    await end()
    throw error
  }
}
