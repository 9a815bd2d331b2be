import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { readDeviceTrees } from './device-tree.ts'
import { attachLoop, ownFolder } from './test-image.ts'

test('the partitions of a disk lie below it, and are no disks of their own', async () => {
  const own = await ownFolder()
  const { device, detach } = await attachLoop(join(own.folder, 'disk.raw'), 16 * 1024 ** 2, 512)
  try {
    const uuid = '2f0c1c4e-6b7e-4f7a-9a51-0d2f5a1b3c4d'
    await execa('sgdisk', ['--new=1:2048:+4M', `--partition-guid=1:${uuid}`, device])
    await execa('partx', ['--update', device])
    const [disk, ...others] = await readDeviceTrees([device], AbortSignal.timeout(60_000))
    expect(others).toEqual([])
    expect(disk).toMatchObject({ path: device, children: [{ path: `${device}p1`, type: 'part' }] })
  } finally {
    await detach()
    await own.remove()
  }
})
